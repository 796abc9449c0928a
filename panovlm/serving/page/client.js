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
  /** `key` returns the API key, or ""; `onLocked` is called where the server asks for another. */
  constructor(key, onLocked) {
    Object.assign(this, { key, onLocked });
  }

  async request(path, { headers, ...options } = {}) {
    const key = this.key(), authorization = key ? { Authorization: `Bearer ${key}` } : {};
    const response = await fetch(path, { ...options, headers: { ...headers, ...authorization } });
    if (response.ok) return response;
    if (response.status === 401) this.onLocked();
    const body = await response.json().catch(() => null);
    const message = body?.error?.message ?? `the server answered with status ${response.status}`;
    throw Object.assign(new Error(message), { status: response.status });
  }

  async get(path) {
    return (await this.request(path)).json();
  }

  async picture(path) {
    return (await this.request(path)).blob();
  }

  async post(path, asked, signal) {
    this.model ??= (await this.get("v1/models")).data[0].id;
    const headers = { "Content-Type": "application/json" }, body = JSON.stringify({ model: this.model, ...asked });
    return this.request(path, { method: "POST", body, signal, headers });
  }

  /** Ask about a picture (a data URL, or null); `onPiece` gets each piece of the answer.
      Returns its text, and the regions it is about. */
  async ask({ question, url, yawShift, signal, onPiece }) {
    const asked = { messages: [userMessage(question, url)], yaw_shift_deg: yawShift, stream: true, grounded: true };
    let text = "", regions = [];
    for await (const event of events(await this.post("v1/chat/completions", asked, signal))) {
      if (event.error) throw new Error(event.error.message);
      const delta = event.choices[0]?.delta ?? {};
      if (delta.content) onPiece(delta.content);
      text += delta.content ?? "";
      regions = delta.regions ?? regions;
    }
    return { text, regions };
  }

  /** Return a picture (a data URL) as a level full sphere, as the model reads it; null where it is one. */
  async leveled(url) {
    const response = await this.post("v1/panorama", { image_url: url });
    return response.status === 204 ? null : response.blob();
  }

  /** Return each view's share of an answer, or null, and the two neighbours that mattered together, or null. */
  async viewsMattered({ question, url, yawShift, answer, signal }) {
    const messages = [userMessage(question, url), { role: "assistant", content: answer }];
    return (await this.post("v1/views/mattered", { messages, yaw_shift_deg: yawShift }, signal)).json();
  }
}
