// One question to the server.

const TRIES = 4;
const PAUSE = 300;

/** What it answers, to a GET or, with something to send, to a POST; throws an Error that says why there is none. */
export async function ask(path, sent) {
  const post = sent && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) };
  const { ok, value } = await answered(path, post);
  if (!ok) throw new Error(value.message);
  return value;
}

/** When the machine's network changes, a browser gives up what is under way; so it is asked again. */
async function answered(path, post) {
  for (let left = TRIES - 1; ; left -= 1) {
    try {
      const answer = await fetch(path, post);
      return { ok: answer.ok, value: await answer.json() };
    } catch {
      if (!left) throw new Error("fairlead ui does not answer: was it ended?");
    }
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}
