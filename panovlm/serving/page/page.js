// The page: open pictures, look around in them and ask about them.

import { Client, dataUrl } from "./client.js";
import { button, made, pictureButton } from "./elements.js";
import { readLink, writeLink } from "./link.js";
import { Mattered } from "./mattered.js";
import { Rotations } from "./rotations.js";
import { wrap } from "./sphere.js";
import { Strip, seen } from "./strip.js";
import { Entry, copy, degrees, direction } from "./talk.js";
import { preferredLanguage, say, setLanguage } from "./texts.js";
import { Tour, nameOf } from "./tour.js";
import { Viewer } from "./viewer.js";
import { aboutPlace, placeAt } from "./words.js";

const STILL_MS = 400;
const STEPS_DEG = { view: 5, strip: 15 };  // of an arrow key
const IDEAS = ["List what is in each direction.", "What is behind me?", "What do I see to my left?"];
const SOURCES = new Map([["field of view", "as answered"], ["direction", "size not stated"], ["question", "the question’s direction"]]);
const AHEAD = { yaw: 0, pitch: 0, fov: 90 };

const at = (id) => document.getElementById(id);
const client = new Client(() => at("key").value.trim(), () => { at("access").open = true; });
const listed = client.get("examples");  // requested while the page is set up
const state = { views: [], asking: null, still: 0, opening: 0, toLook: null };

const viewer = new Viewer(at("view"), at("outlines"), {
  onLook: looked,
  onShow: () => strip.show(tour.shown.picture),  // the picture first, then its map
  onError: (message) => complain(say("The panorama cannot be shown: {message}", { message })),
});
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
  const values = { direction: direction(frame.yaw), pitch: degrees(frame.pitch) };
  at("look").textContent = say("{direction} · pitch {pitch}", values);
  at("view").setAttribute("aria-label", say("Panorama, looking {place}", { place: say(placeAt(frame.yaw)) }));
  strip.look(frame);
  clearTimeout(state.still);
  state.still = setTimeout(() => stoodStill(frame, values), STILL_MS);
}

function stoodStill(frame, values) {
  writeLink(frame, at("question").value, tour.shown.example);
  if (document.activeElement.id in STEPS_DEG) at("announcement").textContent = say("Looking {direction}, pitch {pitch}", values);
}

/** Return a mark of the panorama's own frame as it lies after the rotation shown. */
const asRotated = (mark) => ({ ...mark, yaw: wrap(mark.yaw - rotations.yawShift) });

function rotatePicture(yawShift) {
  viewer.rotate(yawShift);
  strip.rotate(yawShift);
  showMarks();
}

function showMarks() {
  const { marks = [], links = [] } = tour.shown ?? {}, rotated = marks.map(asRotated);
  viewer.mark([...marks, ...links]);
  strip.mark(rotated);
  const shares = mattered.sharesAt(rotations.yawShift), areShown = at("views").checked;
  strip.showViews(areShown || shares ? state.views : [], areShown && rotated.length === 1 ? rotated[0] : null, shares);
}

// Opening pictures

/** Show an error outside any question. */
function complain(message) {
  at("talk").append(made("p", "error", message));
}

/** Open panoramas, one after the other, and show the first: each is a function that returns what a tour takes. */
async function open(sources) {
  const opening = ++state.opening, panoramas = [];
  at("opening").hidden = false;
  for (const source of sources) {
    try {
      const given = await source();
      if (opening !== state.opening) return;
      panoramas.push(tour.add(given));
    } catch (error) {
      complain(say("The picture cannot be opened: {message}", error));
    }
  }
  at("opening").hidden = true;
  if (panoramas.length) enter(panoramas[0]);
}

const openFiles = (files) => open([...files].map((file) => () => fromFile(file)));

/** Return a file's panorama as the model reads it; as it is where that needs a key. */
async function fromFile(file) {
  const url = await dataUrl(file);
  const leveled = await client.leveled(url).catch((error) => {
    if (error.status !== 401) throw error;
  });
  return { blob: leveled ?? file, url, ideas: IDEAS };
}

async function fromExample(number) {
  const [blob, examples] = await Promise.all([client.picture(`examples/${number}.jpg`), listed]);
  const { questions } = examples[number - 1], ideas = questions.length ? questions : IDEAS;
  return { blob, url: dataUrl(blob), ideas, example: number };
}

/** Show a panorama that is open, with what was asked about it. */
function enter(panorama) {
  state.asking?.abort();
  mattered.set(null);
  tour.show(panorama);
  viewer.show(panorama.picture, state.toLook ?? AHEAD);
  state.toLook = null;
  rotations.reset();
  at("talk").replaceChildren(...panorama.entries.map((entry) => entry.root));
  at("ideas").replaceChildren(...panorama.ideas.map((idea) => button(idea, () => submit(idea))));
  at("copied").textContent = "";
  welcome(false);
  at("question").focus({ preventScroll: true });
}

/** Link another panorama to where the visitor looks. */
function linkTo(panorama) {
  const { yaw, pitch } = viewer.frame, onClick = () => enter(panorama);
  const link = { yaw: wrap(yaw + rotations.yawShift), pitch, text: nameOf(panorama), cssClass: "spot link", onClick };
  tour.shown.links.push(link);
  showMarks();
}

function welcome(isShown) {
  document.body.classList.toggle("welcoming", isShown);
  at("welcome").hidden = !isShown;
  document.body.classList.toggle("empty", !tour.shown);
}

function offerExamples(examples) {
  at("try").hidden = !examples.length;
  at("examples").replaceChildren(...examples.map(({ thumbnail }, place) => {
    const number = place + 1;
    return pictureButton(thumbnail, say("Example {number}", { number }), () => open([() => fromExample(number)]));
  }));
}

// Asking

/** Return a region of an answer as a mark of the panorama's own frame. */
function markOf(entry, region, yawShift) {
  const asked = { yaw: region.yaw_deg, pitch: region.pitch_deg }, source = say(SOURCES.get(region.source) ?? "");
  const back = say("{source}, rotated back from {yaw}", { source, yaw: degrees(asked.yaw) });
  const mark = {
    ...asked, yaw: wrap(asked.yaw + yawShift), width: region.width_deg, height: region.height_deg, text: region.label ?? "",
    kind: region.source === "field of view" ? "stated" : "word", cssClass: "spot",
    note: [source && yawShift ? back : source, inViews(asked)].filter(Boolean).join("; "),
    onClick: () => turnTo(entry, mark),
  };
  return mark;
}

async function ask(question, yawShift = rotations.yawShift) {
  const entry = new Entry(question, (yawShift + 360) % 360), { shown } = tour;
  const asking = (state.asking = new AbortController());
  at("talk").append(entry.root);
  shown?.entries.push(entry);
  setBusy(true);
  mattered.set(null);
  try {
    const url = await shown?.url;
    const asked = { question, url, yawShift, signal: asking.signal, onPiece: (piece) => entry.add(piece) };
    const { text, regions } = await client.ask(asked);
    point(entry, url ? regions.map((region) => markOf(entry, region, yawShift)) : []);
    if (url && text) mattered.set({ question, url, yawShift, answer: text, entry });
    const named = regions.filter(({ source }) => source === "direction" || source === "field of view");
    return { question, yawShift, text, yaw: named.length ? wrap(named[0].yaw_deg + yawShift) : null };
  } catch (error) {
    entry.fail(asking.signal.aborted ? say("Stopped.") : error.message);
    if (error.status === 401) at("key").focus();
    return null;
  } finally {
    if (state.asking === asking) setBusy(false);
  }
}

function setBusy(isBusy) {
  if (!isBusy) state.asking = null;
  at("ask").textContent = say(isBusy ? "Stop" : "Ask");
  at("form").setAttribute("aria-busy", String(isBusy));
}

/** Complete an entry with what its answer is about, and look there if that is one place. */
function point(entry, marks) {
  entry.end(marks);
  if (marks.length === 1) marks[0].onClick();
  else if (tour.shown) markEntry(entry);
}

function turnTo(entry, mark) {
  markEntry(entry);
  const { yaw, pitch } = asRotated(mark);
  viewer.turnTo(yaw, pitch);
}

function markEntry(entry) {
  tour.shown.marks = entry.places;
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
    if (error.status !== 401) complain(error.message);
  }
}

async function followLink() {
  const { q, example, look } = readLink(), { shown } = tour;
  at("question").value = q;
  state.toLook = look;
  if (example && example !== shown?.example) await open([() => fromExample(example)]);
  else if (look && viewer.isShowing) viewer.look(look.yaw, look.pitch, look.fov);
  welcome(!tour.shown);
}

function chooseLanguage(language) {
  at("language").value = language;
  setLanguage(language);
  setBusy(Boolean(state.asking));
  tour.list();
  listed.then(offerExamples, (error) => complain(error.message));
  if (viewer.isShowing) looked(viewer.frame);
}

function listen() {
  at("file").addEventListener("change", (event) => openFiles(event.target.files));
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
  for (const [id, stepDeg] of Object.entries(STEPS_DEG)) viewer.steerFrom(at(id), stepDeg);
  new MutationObserver(() => { at("talk").scrollTop = at("talk").scrollHeight; })
    .observe(at("talk"), { childList: true, subtree: true });  // the newest is visible
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
    openFiles(event.dataTransfer.files);
  });
}

chooseLanguage(preferredLanguage());
listen();
followLink();
learnViews();
