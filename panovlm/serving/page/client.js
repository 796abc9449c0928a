// Speaks to the server: OpenAI's chat completions, and where the model's views look.

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split("\n\n");
    held = lines.pop();
    for (const line of lines) if (line !== "data: [DONE]") yield JSON.parse(line.slice(6));
  }
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const error = new Error(body?.error?.message ?? `the server answered with status ${response.status}`);
  error.status = response.status;
  return error;
}

function turn(question, url) {
  const content = [{ type: "text", text: question }];
  if (url) content.unshift({ type: "image_url", image_url: { url } });
  return { role: "user", content };
}

export class Client {
  /** `key` gives the API key, or "". */
  constructor(key) {
    this.key = key;
    this.model = null;
    this.ahead = null;
  }

  async get(path) {
    const response = await fetch(path, { headers: this.headers() });
    if (!response.ok) throw await refusal(response);
    return response.json();
  }

  /** Ask for a picture that will be wanted. */
  fetchAhead(path) {
    const picture = fetch(path).then((response) => response.blob());
    picture.catch(() => {});  // who wants it hears of it
    this.ahead = { path, picture };
  }

  /** Give a picture: the one asked for ahead if it is that. */
  async picture(path) {
    const { ahead } = this;
    this.ahead = null;
    return ahead?.path === path ? ahead.picture : (await fetch(path)).blob();
  }

  headers() {
    return this.key() ? { Authorization: `Bearer ${this.key()}` } : {};
  }

  async post(path, body, signal) {
    this.model ??= (await this.get("v1/models")).data[0].id;
    const response = await fetch(path, {
      method: "POST", body: JSON.stringify({ model: this.model, ...body }), signal,
      headers: { "Content-Type": "application/json", ...this.headers() },
    });
    if (!response.ok) throw await refusal(response);
    return response;
  }

  /** Ask about a picture (a data URL, or null); `onPiece` hears the answer as it comes.
      Gives its text, and the direction it names or null. */
  async ask({ question, url, turned, signal, onPiece }) {
    const asked = { messages: [turn(question, url)], turned_right_deg: turned };
    return this.hear(await this.post("v1/chat/completions", { ...asked, stream: true, grounded: true }, signal), onPiece);
  }

  /** Give each view's share of an answer, or null, and the two neighbours that carried it together, or null. */
  async viewsMattered({ question, url, turned, answer, signal }) {
    const messages = [turn(question, url), { role: "assistant", content: answer }];
    const response = await this.post("v1/views/mattered", { messages, turned_right_deg: turned }, signal);
    return response.json();
  }

  async hear(response, onPiece) {
    let text = "", grounding = null;
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const delta = event.choices[0]?.delta ?? {};
      if (delta.content) onPiece(delta.content);
      text += delta.content ?? "";
      grounding = delta.grounding ?? grounding;
    }
    return { text, grounding };
  }
}
