// The page: open pictures, look around in them and ask about them.

import { Client, dataUrl } from "./client.js";
import { readLink, writeLink } from "./link.js";
import { Mattered } from "./mattered.js";
import { Rotations } from "./rotations.js";
import { wrap } from "./sphere.js";
import { Strip, seen } from "./strip.js";
import { Entry, button, complain, copy, degrees, direction } from "./talk.js";
import { preferredLanguage, say, setLanguage } from "./texts.js";
import { Tour } from "./tour.js";
import { Viewer } from "./viewer.js";
import { aboutPlace, placeAt } from "./words.js";

const STILL_MS = 400;
const IDEAS = ["What is behind me?", "What do I see to my left?", "How many objects are there?"];
const SOURCES = new Map([["field of view", "as answered"], ["direction", "size not stated"], ["question", "the question’s direction"]]);
const AHEAD = { yaw: 0, pitch: 0, fov: 90 };

const at = (id) => document.getElementById(id);
const client = new Client(() => at("key").value.trim());
const listed = client.get("examples");  // requested while the page is set up
const linked = readLink().example;
if (/^\d+$/.test(linked)) client.fetchAhead(`examples/${linked}.jpg`);
const state = { views: [], asking: null, still: 0, opening: 0, toLook: null };

const viewer = new Viewer(at("view"), at("outlines"), { onLook: looked, onShow: shown, onError: showError });
const strip = new Strip(at("strip"), at("whole"), at("chart"), (yaw, pitch, atOnce) => {
  if (!viewer.isShowing) return;
  if (atOnce) viewer.look(yaw, pitch);
  else viewer.turnTo(yaw, pitch);
});
const rotations = new Rotations(
  { slider: at("yaw-shift"), output: at("shifted"), list: at("rotations"), verdict: at("verdict"), all: at("all") },
  ask, rotatePicture);
const mattered = new Mattered(at("mattered"), client, showMarks);
const tour = new Tour({ list: at("tour"), linking: at("linking"), target: at("link-to") }, enter, linkTo);

// Looking around

function looked(frame) {
  at("look").textContent = say("{direction} · pitch {pitch}", { direction: direction(frame.yaw), pitch: degrees(frame.pitch) });
  at("view").setAttribute("aria-label", say("Panorama, looking {place}", { place: say(placeAt(frame.yaw)) }));
  strip.look(frame);
  clearTimeout(state.still);
  state.still = setTimeout(() => stoodStill(frame), STILL_MS);
}

function stoodStill(frame) {
  writeLink(frame, at("question").value, tour.shown.example);
  if (![at("view"), at("strip")].includes(document.activeElement)) return;
  const values = { direction: direction(frame.yaw), pitch: degrees(frame.pitch) };
  at("announcement").textContent = say("Looking {direction}, pitch {pitch}", values);
}

/** Return a mark of the panorama's own frame as it lies after the rotation shown. */
const asRotated = (mark) => ({ ...mark, yaw: wrap(mark.yaw - rotations.yawShift) });

function rotatePicture(yawShift) {
  viewer.rotate(yawShift);
  strip.rotate(yawShift);
  showMarks();
}

function showMarks() {
  const marks = (tour.shown?.marks ?? []).map(asRotated);
  viewer.mark(marks);
  strip.mark(marks);
  const shares = mattered.sharesAt(rotations.yawShift), areShown = at("views").checked;
  strip.showViews(areShown || shares ? state.views : [], areShown && marks.length === 1 ? marks[0] : null, shares);
}

// Opening pictures

function showError(message) {
  complain(at("talk"), say("The panorama cannot be shown: {message}", { message }));
}

/** Open pictures, one after the other, and show the first. */
async function open(blobs) {
  const opening = ++state.opening, panoramas = [];
  at("opening").hidden = false;
  for (const blob of blobs) {
    try {
      const url = await dataUrl(blob), picture = (await leveled(url)) ?? blob;
      if (opening !== state.opening) return;
      panoramas.push(tour.add(picture, { url, ideas: IDEAS }));
    } catch (error) {
      complain(at("talk"), say("The picture cannot be opened: {message}", error));
    }
  }
  at("opening").hidden = true;
  if (panoramas.length) enter(panoramas[0]);
}

/** Return the picture as the model reads it; null as it is, also where that needs a key. */
async function leveled(url) {
  try {
    return await client.leveled(url);
  } catch (error) {
    if (error.status !== 401) throw error;
    at("access").open = true;
    return null;
  }
}

/** Show a panorama that is open, with what was asked about it. */
function enter(panorama) {
  state.asking?.abort();
  mattered.set(null);
  tour.show(panorama);
  viewer.show(panorama.id, panorama.picture, state.toLook ?? AHEAD);
  if (state.toLook) state.toLook = null;
  rotations.reset();
  at("talk").replaceChildren(...panorama.entries.map((entry) => entry.root));
  at("ideas").replaceChildren(...panorama.ideas.map((idea) => button(idea, () => submit(idea))));
  for (const id of ["other", "back"]) at(id).hidden = false;
  at("here").disabled = false;
  at("copied").textContent = "";
  welcome(false);
  at("question").focus({ preventScroll: true });
}

/** Go on when a panorama is there: the picture first, then its map. */
function shown() {
  strip.show(tour.shown.picture);
  viewer.link(tour.shown.links);
  showMarks();
}

/** Link another panorama to where the visitor looks. */
function linkTo(panorama) {
  const { yaw, pitch } = viewer.frame, onClick = () => enter(panorama);
  const link = { yaw: wrap(yaw + rotations.yawShift), pitch, text: tour.nameOf(panorama), cssClass: "spot link", onClick };
  tour.shown.links.push(link);
  viewer.link(tour.shown.links);
}

function welcome(isShown) {
  document.body.classList.toggle("welcoming", isShown);
  at("welcome").hidden = !isShown;
  document.body.classList.toggle("empty", !tour.shown);
}

function offerExamples(examples) {
  at("examples").replaceChildren(...examples.map((example, number) => {
    const choice = button("", () => openExample(example, number)), picture = document.createElement("img");
    picture.loading = "lazy";  // behind an example that was linked to, nobody sees it
    picture.src = example.thumbnail;
    picture.alt = say("Example {number}", { number: number + 1 });
    choice.append(picture);
    return choice;
  }));
}

async function openExample({ picture, questions }, number) {
  const opening = ++state.opening;
  at("opening").hidden = false;
  try {
    const blob = await client.picture(picture);
    if (opening === state.opening) enter(tour.add(blob, { url: dataUrl(blob), ideas: questions, example: String(number + 1) }));
  } catch (error) {
    complain(at("talk"), say("The picture cannot be opened: {message}", error));
  } finally {
    at("opening").hidden = true;
  }
}

// Asking

/** Return the regions of an answer as marks of the panorama's own frame. */
function marksOf(entry, regions, yawShift) {
  return regions.map((region) => {
    const yaw = wrap(region.yaw_deg + yawShift), source = say(SOURCES.get(region.source) ?? "");
    const from = { source, yaw: degrees(region.yaw_deg) };
    const mark = {
      yaw, pitch: region.pitch_deg, width: region.width_deg, height: region.height_deg, text: region.label ?? "",
      kind: region.source === "field of view" ? "stated" : "word",
      source: source && yawShift ? say("{source}, rotated back from {yaw}", from) : source,
    };
    return Object.assign(mark, { onClick: () => turnTo(entry, mark) });
  });
}

async function ask(question, yawShift = rotations.yawShift) {
  const entry = new Entry(at("talk"), question, yawShift && (yawShift + 360) % 360), { shown } = tour;
  const asking = (state.asking = new AbortController());
  shown?.entries.push(entry);
  setBusy(true);
  mattered.set(null);
  try {
    const url = await shown?.url;
    const asked = { question, url, yawShift, signal: asking.signal, onPiece: (piece) => entry.add(piece) };
    const { text, regions } = await client.ask(asked);
    point(entry, url ? marksOf(entry, regions, yawShift) : []);
    if (url && text) mattered.set({ question, url, yawShift, answer: text, entry });
    const named = regions.filter(({ source }) => source === "direction" || source === "field of view");
    return { question, yawShift, text, yaw: named.length ? wrap(named[0].yaw_deg + yawShift) : null };
  } catch (error) {
    failed(entry, error, asking.signal.aborted);
    return null;
  } finally {
    if (state.asking === asking) setBusy(false);
  }
}

function failed(entry, error, isStopped) {
  entry.fail(isStopped ? say("Stopped.") : error.message);
  if (error.status !== 401) return;
  at("access").open = true;
  at("key").focus();
}

function setBusy(isBusy) {
  if (!isBusy) state.asking = null;
  at("ask").textContent = say(isBusy ? "Stop" : "Ask");
  at("form").setAttribute("aria-busy", String(isBusy));
}

/** Complete an entry with what its answer is about, and look there if that is one place. */
function point(entry, marks) {
  entry.marks = marks;
  const note = (mark) => [mark.source, inViews(asRotated(mark))].filter(Boolean).join("; ");
  entry.end(marks.map((mark) => ({ ...mark, note: note(mark) })));
  if (marks.length === 1) marks[0].onClick();
  else if (tour.shown) markEntry(entry);
}

function turnTo(entry, mark) {
  markEntry(entry);
  const { yaw, pitch } = asRotated(mark);
  viewer.turnTo(yaw, pitch);
}

function markEntry(entry) {
  tour.shown.marks = entry.marks;
  showMarks();
}

function inViews(mark) {
  const views = state.views.flatMap((view, number) => (!view.is_global && seen(view, mark) ? [number + 1] : []));
  const text = views.length > 1 ? "in views {views} of {count}" : "in view {views} of {count}";
  return views.length ? say(text, { views: views.join(", "), count: state.views.length }) : "";
}

async function submit(question) {
  at("question").value = question;
  if (state.asking) return;
  if (viewer.isShowing) writeLink(viewer.frame, question, tour.shown.example);
  rotations.begin(null);
  const first = await ask(question);
  if (first && tour.shown) rotations.begin(first);
}

// The model's views

async function learnViews() {
  try {
    const { stride_deg: stride, views } = await client.get("v1/views");
    state.views = mattered.views = views;
    at("showing").hidden = false;
    at("rotation").hidden = !stride;
    rotations.offer(stride);
    showMarks();
  } catch (error) {
    if (error.status !== 401) complain(at("talk"), error.message);
    else at("access").open = true;
  }
}

async function followLink() {
  const link = readLink(), { shown } = tour;
  at("question").value = link.q;
  const look = link.yaw === null ? null : { yaw: link.yaw, pitch: link.pitch ?? 0, fov: link.fov ?? 90 };
  state.toLook = look;
  if (!link.example) welcome(!shown);
  try {
    const examples = await listed, example = examples[Number(link.example) - 1];
    offerExamples(examples);
    if (example && link.example !== shown?.example) await openExample(example, Number(link.example) - 1);
    else if (look && viewer.isShowing) viewer.look(look.yaw, look.pitch, look.fov);
  } finally {
    if (!tour.shown) welcome(true);
  }
}

function chooseLanguage(language) {
  at("language").value = language;
  setLanguage(language);
  setBusy(Boolean(state.asking));
  tour.list();
  if (viewer.isShowing) looked(viewer.frame);
}

function listen() {
  at("file").addEventListener("change", (event) => open([...event.target.files]));
  at("other").addEventListener("click", () => { welcome(true); at("file").focus(); });
  at("back").addEventListener("click", () => { welcome(false); at("view").focus(); });
  at("key").addEventListener("change", learnViews);
  at("views").addEventListener("change", showMarks);
  at("language").addEventListener("change", (event) => chooseLanguage(event.target.value));
  at("copy").addEventListener("click", async () => {
    at("copied").textContent = await copy(tour.shown.entries, at("talk"));
  });
  at("here").addEventListener("click", () => submit(aboutPlace(at("question").value, viewer.frame.yaw)));
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
    open([...event.dataTransfer.files]);
  });
}

chooseLanguage(preferredLanguage());
listen();
followLink().catch((error) => complain(at("talk"), error.message));
learnViews();
