"use strict";
const at = (id) => document.getElementById(id);
let viewer = null, url = null, model = null;

function say(text, kind) {
  const line = document.createElement("p");
  line.textContent = text;  // never as HTML: a model's words are no markup
  if (kind) line.className = kind;
  at("talk").append(line);
  return line;
}

function headers() {
  const key = at("key").value;
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function open(file) {
  try {
    viewer ??= new Viewer(at("view"), (yaw, pitch) => {
      at("look").textContent = `yaw ${yaw.toFixed(0)}°, pitch ${pitch.toFixed(0)}°`;
    });
    await viewer.show(file);
  } catch (error) {
    say(`The picture cannot be shown: ${error.message}`, "fault");
  }
  url = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(file);
  });
  at("talk").replaceChildren();
  at("question").focus();
}

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
  return new Error(body?.error?.message ?? `status ${response.status}`);
}

async function ask(question) {
  say(question).style.fontWeight = "600";
  const line = say("");
  if (!model) {
    const listed = await fetch("v1/models", { headers: headers() });
    if (!listed.ok) throw await refusal(listed);
    model = (await listed.json()).data[0].id;
  }
  const content = [{ type: "text", text: question }];
  if (url) content.unshift({ type: "image_url", image_url: { url } });
  const body = JSON.stringify({ model, stream: true, grounded: true, messages: [{ role: "user", content }] });
  const response = await fetch("v1/chat/completions", {
    method: "POST", body, headers: { "Content-Type": "application/json", ...headers() },
  });
  if (!response.ok) throw await refusal(response);
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    const delta = event.choices[0]?.delta ?? {};
    line.append(delta.content ?? "");
    if (delta.grounding) point(line, delta.grounding);
  }
}

function point(line, grounding) {
  const turn = () => viewer?.isShowing && viewer.turnTo(grounding.yaw_deg, grounding.pitch_deg ?? 0);
  const button = document.createElement("button");
  button.textContent = `look there (yaw ${grounding.yaw_deg}°)`;
  button.onclick = turn;
  line.append(" ", button);
  turn();
}

at("file").onchange = (event) => event.target.files[0] && open(event.target.files[0]);
const main = document.querySelector("main");
main.ondragover = (event) => { event.preventDefault(); main.classList.add("over"); };
main.ondragleave = () => main.classList.remove("over");
main.ondrop = (event) => {
  event.preventDefault();
  main.classList.remove("over");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
};
at("form").onsubmit = async (event) => {
  event.preventDefault();
  const question = at("question").value;
  at("ask").disabled = true;
  await ask(question).catch((error) => say(error.message, "fault"));
  at("ask").disabled = false;
};
