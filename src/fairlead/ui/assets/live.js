// Listening to the server (server-sent events).  The browser itself connects again after a break, which takes a moment.

const MOMENT = 2000;

export function follow(model, { changed, trouble }) {
  let source = null;
  let broken = null;

  function open() {
    source = new EventSource("live");
    source.addEventListener("topology", (event) => {
      model.load(JSON.parse(event.data));
      trouble("");
      changed();
    });
    source.addEventListener("change", (event) => {
      model.change(JSON.parse(event.data));
      changed();
    });
    source.addEventListener("trouble", (event) => trouble(`${JSON.parse(event.data).Message}. What is shown may be out of date.`));
    source.onopen = () => {
      clearTimeout(broken);
      broken = null;
    };
    source.onerror = () => {
      broken ??= setTimeout(trouble, MOMENT, "fairlead ui does not answer: was it ended? What is shown may be out of date.");
    };
  }

  // Nobody looks at a hidden page, so nothing is read for it.
  document.addEventListener("visibilitychange", () => {
    source.close();
    if (!document.hidden) open();
  });
  open();
}
