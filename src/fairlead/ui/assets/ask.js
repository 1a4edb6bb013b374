// Questions to the server.

const TRIES = 4;
const PAUSE = 300;

/** What it answers, to a GET or, with something to send, to a POST; throws an Error that says why there is none. */
export async function ask(path, sent) {
  const post = sent && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) };
  const { ok, value } = await persist(async () => {
    const answer = await fetch(path, post);
    return { ok: answer.ok, value: await answer.json() };
  });
  if (!ok) throw new Error(value.message);
  return value;
}

/**
 * What `attempt` returns.  When the machine's network changes, a browser gives up what is under way (a TypeError), so it
 * is tried again, a few times for each time that it got as far as calling its argument.
 */
export async function persist(attempt) {
  let left = TRIES;
  for (;;) {
    try {
      return await attempt(() => (left = TRIES));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      left -= 1;
      if (!left) throw new Error("fairlead ui does not answer: was it ended?");
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}
