// One question at a time: show it, send the answer until the server has it, show the next one.
"use strict";

const BREAK_MINUTES = 20;
const RETRY_MS = 700;
const element = (id) => document.getElementById(id);
const kind = document.body.dataset.kind;
const answers = [...document.querySelectorAll("#answers button")];
const views = [...document.querySelectorAll(".view")];
const pictures = views.map((view) => view.querySelector("img"));
const keys = kind === "pair" ? { ArrowLeft: "left", ArrowDown: "same", ArrowRight: "right" }
  : { 1: 1, 2: 2, 3: 3, 4: 4, 5: 5 };

let rater = "";
let question = null;
let isReady = false; // whether the images of the question are on the screen and no answer is on its way
let goesOn = false; // whether the rater wants more than was asked for

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

function notice(text) {
  element("notice").textContent = text;
  element("notice").hidden = !text;
}

// Asks until there is an answer: a server that was ended and started again has lost nothing.
async function ask(path, body) {
  for (;;) {
    try {
      const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
      const response = await fetch(path, options);
      const content = await response.json();
      if (response.ok || response.status < 500) return { status: response.status, content };
      notice(`Not saved yet: ${content.detail}. Trying again …`);
    } catch {
      notice("The server does not answer. Your vote is kept here and sent again …");
    }
    await wait(RETRY_MS);
  }
}

async function loadQuestion(text = "") {
  const { status, content } = await ask(`/question?rater=${encodeURIComponent(rater)}`);
  if (status !== 200) return notice(content.detail ? String(content.detail) : `error ${status}`);
  await show(content, text);
}

async function show(next, text = "") {
  question = next;
  isReady = false;
  setFull(false);
  const share = next.goal ? Math.min(1, next.done / next.goal) : 0;
  element("bar").style.width = `${100 * share}%`;
  element("track").setAttribute("aria-valuemax", next.goal);
  element("track").setAttribute("aria-valuenow", next.done);
  element("count").textContent = next.done > next.goal ? `${next.done}, ${next.goal} asked for` : `${next.done} of ${next.goal}`;
  element("advice").textContent = next.advice;
  const isReached = next.goal > 0 && next.done >= next.goal;
  const isEmpty = next.images.length === 0;
  notice(text || breakHint(next));
  if (isEmpty || (isReached && !goesOn)) return showPanel(isEmpty, isReached);
  element("panel").hidden = true;
  try {
    // The id has the content in it: a browser shows an address that it has in memory without asking the server again.
    await Promise.all(next.images.map((key, i) => showPicture(pictures[i], `/image/${key}?question=${next.id}`)));
  } catch {
    await wait(RETRY_MS);
    if (question === next) await loadQuestion("An image could not be shown.");
    return;
  }
  if (question !== next) return;
  isReady = true;
  setEnabled();
}

function breakHint(next) {
  if (next.minutes < BREAK_MINUTES) return "";
  return `You have rated for ${next.minutes} minutes. A short break keeps your votes steady.`;
}

async function showPicture(picture, address) {
  picture.classList.remove("shown");
  picture.src = address;
  await picture.decode();
  picture.style.width = `${picture.naturalWidth / window.devicePixelRatio}px`;
  picture.classList.add("shown");
}

function showPanel(isEmpty, isReached) {
  for (const picture of pictures) picture.classList.remove("shown");
  const isWaiting = isEmpty && !question.is_complete;
  const words = isWaiting ? ["Looking for images …", ""]
    : isReached || question.done ? ["Thank you!", isEmpty ? "You have rated everything there is. New images show here as they come." : `You have given all ${question.goal} votes that were asked for.`]
      : ["No images yet", "Images show here as they come into the folder."];
  element("panel").querySelector("h2").textContent = words[0];
  element("panel").querySelector("p").textContent = words[1];
  element("go-on").hidden = isEmpty;
  element("panel").hidden = false;
  setEnabled();
  const shown = question;
  if (isEmpty) setTimeout(() => { if (question === shown) loadQuestion(); }, isWaiting ? 200 : 2000);
}

function setEnabled() {
  for (const button of answers) {
    button.disabled = !isReady;
    button.classList.remove("sent");
  }
  element("undo").disabled = !question || !question.undo;
  element("zoom").disabled = !isReady;
}

async function send(path, body) {
  isReady = false;
  for (const button of answers) button.disabled = true;
  element("undo").disabled = true;
  const { status, content } = await ask(path, body);
  if (status === 200) return show(content);
  await loadQuestion(typeof content.detail === "string" ? `${content.detail}.` : `error ${status}`);
}

function answer(value) {
  if (!isReady) return;
  answers.find((button) => button.dataset.value === String(value)).classList.add("sent");
  send("/vote", { rater, id: question.id, images: question.images, value });
}

function undo() {
  if (element("undo").disabled) return;
  send("/undo", { rater, vote: question.undo });
}

// Full resolution: one pixel of the image is one of the screen; the point (shares of width and height) is in the middle.
function setFull(isFull, x = .5, y = .5) {
  views.forEach((view, i) => {
    view.classList.toggle("full", isFull);
    if (!isFull) return;
    view.scrollLeft = x * pictures[i].clientWidth - view.clientWidth / 2;
    view.scrollTop = y * pictures[i].clientHeight - view.clientHeight / 2;
  });
  element("zoom").setAttribute("aria-pressed", isFull);
  element("zoom").querySelector("span").textContent = isFull ? "Fit" : "1:1";
}

const isFull = () => views[0].classList.contains("full");

views.forEach((view, i) => {
  let drag = null;
  view.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, left: view.scrollLeft, top: view.scrollTop, moved: false };
  });
  view.addEventListener("pointermove", (event) => {
    if (!drag || !event.buttons || !isFull() || event.pointerType === "touch") return;
    drag.moved ||= Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4;
    view.scrollLeft = drag.left - (event.clientX - drag.x);
    view.scrollTop = drag.top - (event.clientY - drag.y);
  });
  view.addEventListener("scroll", () => { // both images of a pair show the same part
    for (const [j, other] of views.entries()) {
      if (j === i || !isFull()) continue;
      const left = view.scrollLeft / Math.max(1, view.scrollWidth - view.clientWidth) * (other.scrollWidth - other.clientWidth);
      const top = view.scrollTop / Math.max(1, view.scrollHeight - view.clientHeight) * (other.scrollHeight - other.clientHeight);
      if (Math.abs(other.scrollLeft - left) > 2) other.scrollLeft = left;
      if (Math.abs(other.scrollTop - top) > 2) other.scrollTop = top;
    }
  });
  view.addEventListener("click", (event) => {
    const hasMoved = drag && drag.moved;
    drag = null;
    if (hasMoved || !isReady) return;
    const box = pictures[i].getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    setFull(!isFull(), Math.min(1, Math.max(0, x)), Math.min(1, Math.max(0, y)));
  });
});

for (const button of answers) {
  button.addEventListener("click", () => answer(kind === "pair" ? button.dataset.value : Number(button.dataset.value)));
}
element("undo").addEventListener("click", undo);
element("zoom").addEventListener("click", () => setFull(!isFull()));
element("go-on").addEventListener("click", () => { goesOn = true; show(question); });

document.addEventListener("keydown", (event) => {
  if (element("rating").hidden || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key in keys) {
    event.preventDefault();
    if (element("panel").hidden) answer(keys[event.key]);
  } else if (event.key.toLowerCase() === "u" || event.key === "Backspace") undo();
  else if (event.key.toLowerCase() === "z" && isReady) setFull(!isFull());
});

element("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = element("name").value.trim();
  if (!rater) return;
  localStorage.setItem("rater", rater);
  element("welcome").hidden = true;
  element("rating").hidden = false;
  element("rater").textContent = rater;
  loadQuestion();
});
element("name").value = localStorage.getItem("rater") || "";
