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

export class Client {
  /** `key` gives the API key, or "". */
  constructor(key) {
    this.key = key;
    this.model = null;
  }

  async get(path) {
    const response = await fetch(path, { headers: this.headers() });
    if (!response.ok) throw await refusal(response);
    return response.json();
  }

  headers() {
    return this.key() ? { Authorization: `Bearer ${this.key()}` } : {};
  }

  /** Ask about a picture (a data URL, or null); `onPiece` hears the answer as it comes.
      Gives its text, and the direction it names or null. */
  async ask({ question, url, turned, signal, onPiece }) {
    this.model ??= (await this.get("v1/models")).data[0].id;
    const content = [{ type: "text", text: question }];
    if (url) content.unshift({ type: "image_url", image_url: { url } });
    const body = { model: this.model, stream: true, grounded: true, messages: [{ role: "user", content }] };
    if (turned) body.turned_right_deg = turned;
    const headers = { "Content-Type": "application/json", ...this.headers() };
    const response = await fetch("v1/chat/completions", {
      method: "POST", body: JSON.stringify(body), headers, signal,
    });
    if (!response.ok) throw await refusal(response);
    return this.hear(response, onPiece);
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
