// The connection to the server: pictures arrive as events, questions are requests.

/** Follows the events. EventSource connects again by itself. */
export function follow({ picture, trouble, status }) {
  const events = new EventSource("events");
  events.addEventListener("open", () => status("reading", "connected"));
  events.addEventListener("error", () => status("lost", "connection lost, retrying"));
  events.addEventListener("picture", (event) => picture(JSON.parse(event.data)));
  events.addEventListener("trouble", (event) => trouble(JSON.parse(event.data).message));
}

async function read(response) {
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

/** The explanation of a service, address, node, peer or pool. */
export async function explain(kind, name) {
  const path = name.split("/").map(encodeURIComponent).join("/");
  return read(await fetch(`explain/${kind}/${path}`));
}

/** What would change if the events happened and the manifests were applied. */
export async function whatIf(events, manifests) {
  const body = JSON.stringify({ events, manifests });
  const headers = { "content-type": "application/json" };
  return read(await fetch("what-if", { method: "POST", headers, body }));
}
