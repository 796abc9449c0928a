// Requests to the server: OpenAI's chat completions, and the model's views.

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

/** Return a picture as requests hold it. */
export function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function userMessage(question, url) {
  const content = [{ type: "text", text: question }];
  if (url) content.unshift({ type: "image_url", image_url: { url } });
  return { role: "user", content };
}

export class Client {
  /** `key` returns the API key, or "". */
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

  /** Request a picture that will be needed. */
  fetchAhead(path) {
    const picture = fetch(path).then((response) => response.blob());
    picture.catch(() => {});  // `picture` reports it
    this.ahead = { path, picture };
  }

  /** Return a picture: the one requested ahead if it is that. */
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

  /** Ask about a picture (a data URL, or null); `onPiece` gets each piece of the answer.
      Returns its text, and the regions it is about. */
  async ask({ question, url, yawShift, signal, onPiece }) {
    const asked = { messages: [userMessage(question, url)], yaw_shift_deg: yawShift };
    return this.receive(await this.post("v1/chat/completions", { ...asked, stream: true, grounded: true }, signal), onPiece);
  }

  /** Return a picture (a data URL) as a level full sphere, as the model reads it; null where it is one. */
  async leveled(url) {
    const response = await this.post("v1/panorama", { image_url: url });
    return response.status === 204 ? null : response.blob();
  }

  /** Return each view's share of an answer, or null, and the two neighbours that mattered together, or null. */
  async viewsMattered({ question, url, yawShift, answer, signal }) {
    const messages = [userMessage(question, url), { role: "assistant", content: answer }];
    const response = await this.post("v1/views/mattered", { messages, yaw_shift_deg: yawShift }, signal);
    return response.json();
  }

  async receive(response, onPiece) {
    let text = "", regions = [];
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const delta = event.choices[0]?.delta ?? {};
      if (delta.content) onPiece(delta.content);
      text += delta.content ?? "";
      regions = delta.regions ?? regions;
    }
    return { text, regions };
  }
}
