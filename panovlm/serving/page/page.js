// The page: open a picture, look around in it and ask about it.

import { Client } from "./client.js";
import { readLink, writeLink } from "./link.js";
import { Mattered } from "./mattered.js";
import { Rotations } from "./rotations.js";
import { wrap } from "./sphere.js";
import { Strip, seen } from "./strip.js";
import { Entry, complain, degrees, direction } from "./talk.js";
import { Viewer } from "./viewer.js";
import { aboutPlace, placeAt, yawNamed } from "./words.js";

const STILL_MS = 400;
const EIGHTH = { width: 45, height: 70 };  // words name an eighth of the circle and no height
const IDEAS = ["What is behind me?", "What do I see to my left?", "How many objects are there?"];

const at = (id) => document.getElementById(id);
const client = new Client(() => at("key").value.trim());
const listed = client.get("examples");  // requested while the viewer is set up
const linked = readLink().example;
if (/^\d+$/.test(linked)) client.fetchAhead(`examples/${linked}.jpg`);
const state = { url: null, example: "", views: [], marks: [], asking: null, still: 0, opening: 0, toLook: null };

function setUpViewer() {
  try {
    return new Viewer(at("view"), at("outlines"), looked);
  } catch (error) {
    complain(at("talk"), `The panorama cannot be shown: ${error.message}.`);
    return null;
  }
}

const strip = new Strip(at("strip"), at("whole"), at("chart"), (yaw, pitch, atOnce) => {
  if (!viewer?.isShowing) return;
  viewer.turning = null;
  if (atOnce) viewer.look(yaw, pitch);
  else viewer.turnTo(yaw, pitch);
});
const viewer = setUpViewer();
const rotations = new Rotations(
  { slider: at("yaw-shift"), output: at("shifted"), list: at("rotations"), verdict: at("verdict"), all: at("all") },
  ask, rotatePicture);
const mattered = new Mattered(at("mattered"), client, showMark);

// Looking around

function looked(frame) {
  at("look").textContent = `${direction(frame.yaw)} · pitch ${degrees(frame.pitch)}`;
  at("view").setAttribute("aria-label", `Panorama, looking ${placeAt(frame.yaw)}`);
  strip.look(frame);
  clearTimeout(state.still);
  state.still = setTimeout(() => stoodStill(frame), STILL_MS);
}

function stoodStill(frame) {
  writeLink(frame, at("question").value, state.example);
  const hasFocus = [at("view"), at("strip")].includes(document.activeElement);
  if (hasFocus) at("announcement").textContent = `Looking ${direction(frame.yaw)}, pitch ${degrees(frame.pitch)}`;
}

/** Return a mark of the panorama's own frame as it lies after the rotation shown. */
const asRotated = (mark) => ({ ...mark, yaw: wrap(mark.yaw - rotations.yawShift) });

function rotatePicture(yawShift) {
  viewer?.rotate(yawShift);
  strip.rotate(yawShift);
  showMark();
}

function showMark() {
  const marks = state.marks.map(asRotated);
  viewer?.mark(marks);
  strip.mark(marks);
  const shares = mattered.sharesAt(rotations.yawShift), areShown = at("views").checked;
  strip.showViews(areShown || shares ? state.views : [], areShown && marks.length === 1 ? marks[0] : null, shares);
}

// Opening a picture

async function decode(blob) {
  const bitmap = await createImageBitmap(blob), most = viewer?.maxWidth ?? 4096;
  if (bitmap.width <= most) return bitmap;
  const size = { resizeWidth: most, resizeHeight: Math.round((bitmap.height * most) / bitmap.width) };
  return createImageBitmap(bitmap, { ...size, resizeQuality: "high" });  // some graphics cards take no 8K picture
}

function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

async function open(blob, { example = "", ideas = IDEAS } = {}) {
  const opening = ++state.opening;
  at("opening").hidden = false;
  try {
    const [bitmap, url] = await Promise.all([decode(blob), dataUrl(blob)]);
    if (opening !== state.opening) return;
    state.asking?.abort();
    Object.assign(state, { url, example, marks: [] });
    viewer?.show(bitmap);
    lookAsLinked();
    begin(ideas);
    await frameShown();  // the picture first, then its map
    strip.show(bitmap);
    bitmap.close();
  } catch (error) {
    complain(at("talk"), `The picture cannot be shown: ${error.message}`);
  } finally {
    if (opening === state.opening) at("opening").hidden = true;
  }
}

const frameShown = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

/** Look where the address says, once. */
function lookAsLinked() {
  if (!state.toLook || !viewer?.isShowing) return;
  const { yaw, pitch, fov } = state.toLook;
  state.toLook = null;
  viewer.look(yaw, pitch ?? 0, fov ?? 90);
}

function begin(ideas) {
  at("talk").replaceChildren();
  mattered.set(null);
  rotations.reset();
  offerIdeas(ideas);
  for (const id of ["other", "back"]) at(id).hidden = false;
  at("here").disabled = !viewer;
  welcome(false);
  at("question").focus({ preventScroll: true });
}

function welcome(isShown) {
  document.body.classList.toggle("welcoming", isShown);
  at("welcome").hidden = !isShown;
  document.body.classList.toggle("empty", !state.url);
}

function button(text, onClick) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", onClick);
  return made;
}

function offerIdeas(ideas) {
  at("ideas").replaceChildren(...ideas.map((idea) => button(idea, () => submit(idea))));
}

function offerExamples(examples) {
  at("examples").replaceChildren(...examples.map((example, number) => {
    const choice = button("", () => openExample(example, number)), picture = document.createElement("img");
    picture.loading = "lazy";  // behind an example that was linked to, nobody sees it
    picture.src = example.thumbnail;
    picture.alt = `Example ${number + 1}`;
    choice.append(picture);
    return choice;
  }));
}

async function openExample(example, number) {
  at("opening").hidden = false;
  try {
    await open(await client.picture(example.picture), { example: String(number + 1), ideas: example.questions });
  } catch (error) {
    at("opening").hidden = true;
    complain(at("talk"), `The example cannot be opened: ${error.message}`);
  }
}

// Asking

/** Return the direction of an answer in the panorama's own frame: its own, else the question's. */
function directionOf(question, grounding, yawShift) {
  const asked = yawNamed(question);
  if (!grounding && asked === null) return null;
  const { yaw_deg: yaw, pitch_deg: pitch, width_deg: width, height_deg: height } = grounding ?? { yaw_deg: asked };
  const isStated = Boolean(width && height);
  const size = isStated ? { width, height } : EIGHTH;
  const kind = isStated ? "stated" : "word", source = sourceOf(grounding, isStated, yawShift ? yaw : null);
  return { ...size, pitch: pitch ?? 0, yaw: wrap(yaw + yawShift), kind, source };
}

function sourceOf(grounding, isStated, answeredYaw) {
  const source = !grounding ? "the question’s direction" : isStated ? "as answered" : "size not stated";
  return answeredYaw === null ? source : `${source}, rotated back from ${degrees(answeredYaw)}`;
}

/** Return what to outline, in the panorama's own frame: the one direction, else each line of a listing. */
function marksOf(question, grounding, regions, yawShift) {
  const listed = regions.filter(({ source }) => source === "listing");
  const one = listed.length ? null : directionOf(question, grounding, yawShift);
  if (one) return [one];
  return listed.map(({ yaw_deg: yaw, pitch_deg: pitch, width_deg: width, height_deg: height }) =>
    ({ yaw: wrap(yaw + yawShift), pitch, width, height, kind: "word" }));
}

async function ask(question, yawShift = rotations.yawShift) {
  const entry = new Entry(at("talk"), question, yawShift && (yawShift + 360) % 360);
  const asking = (state.asking = new AbortController());
  setBusy(true);
  mattered.set(null);
  try {
    const asked = { question, url: state.url, yawShift, signal: asking.signal, onPiece: (piece) => entry.add(piece) };
    const { text, grounding, regions } = await client.ask(asked);
    point(entry, state.url ? marksOf(question, grounding, regions, yawShift) : []);
    if (state.url && text) mattered.set({ question, url: state.url, yawShift, answer: text, entry });
    return { question, yawShift, text, yaw: grounding ? wrap(grounding.yaw_deg + yawShift) : null };
  } catch (error) {
    failed(entry, error, asking.signal.aborted);
    return null;
  } finally {
    if (state.asking === asking) setBusy(false);
  }
}

function failed(entry, error, isStopped) {
  entry.fail(isStopped ? "Stopped." : error.message);
  if (error.status !== 401) return;
  at("access").open = true;
  at("key").focus();
}

function setBusy(isBusy) {
  if (!isBusy) state.asking = null;
  at("ask").textContent = isBusy ? "Stop" : "Ask";
  at("form").setAttribute("aria-busy", String(isBusy));
}

function point(entry, marks) {
  state.marks = marks;
  showMark();
  const mark = marks.length === 1 ? marks[0] : null;
  const turn = () => {
    state.marks = marks;
    showMark();
    const { yaw, pitch } = asRotated(mark);
    viewer?.turnTo(yaw, pitch);
  };
  entry.end(mark, mark && inViews(asRotated(mark)), turn);
  if (mark && viewer) turn();
}

function inViews(mark) {
  const numbers = state.views.flatMap((view, number) => (!view.is_global && seen(view, mark) ? [number + 1] : []));
  return numbers.length ? `in ${numbers.length > 1 ? "views" : "view"} ${numbers.join(", ")} of ${state.views.length}` : "";
}

async function submit(question) {
  at("question").value = question;
  if (state.asking) return;
  if (viewer?.isShowing) writeLink(viewer.frame, question, state.example);
  rotations.begin(null);
  const first = await ask(question);
  if (first && state.url) rotations.begin(first);
}

// The model's views

async function learnViews() {
  try {
    const { stride_deg: stride, views } = await client.get("v1/views");
    state.views = mattered.views = views;
    at("showing").hidden = false;
    at("rotation").hidden = !stride;
    rotations.offer(stride);
    showMark();
  } catch (error) {
    if (error.status !== 401) complain(at("talk"), error.message);
    else at("access").open = true;
  }
}

async function followLink() {
  const link = readLink();
  at("question").value = link.q;
  state.toLook = link.yaw === null ? null : link;
  if (!link.example) welcome(!state.url);
  try {
    const examples = await listed, example = examples[Number(link.example) - 1];
    offerExamples(examples);
    if (example && link.example !== state.example) await openExample(example, Number(link.example) - 1);
    lookAsLinked();
  } finally {
    if (!state.url) welcome(true);
  }
}

function listen() {
  at("file").addEventListener("change", (event) => event.target.files[0] && open(event.target.files[0]));
  at("other").addEventListener("click", () => { welcome(true); at("file").focus(); });
  at("back").addEventListener("click", () => { welcome(false); at("view").focus(); });
  at("key").addEventListener("change", learnViews);
  at("views").addEventListener("change", showMark);
  at("here").addEventListener("click", () => submit(aboutPlace(at("question").value, viewer.yaw)));
  at("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (state.asking) state.asking.abort();
    else submit(at("question").value);
  });
  addEventListener("hashchange", followLink);
  listenForDrops();
}

function listenForDrops() {
  const over = (isOver) => document.body.classList.toggle("over", isOver);
  addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  addEventListener("dragleave", (event) => event.relatedTarget ?? over(false));
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}

offerIdeas(IDEAS);
listen();
followLink().catch((error) => complain(at("talk"), error.message));
learnViews();
