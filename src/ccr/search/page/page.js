"use strict";

const by = (id) => document.getElementById(id);
const status = (...parts) => by("status").replaceChildren(...parts);
let latest = 0;     // number of the last request, so that a late answer of an earlier one is not shown
let timer = null;

function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

async function ask(url, options) {
  const response = await fetch(url, options);
  const found = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw new Error(found.error || response.statusText);
  return found;
}

function media(hit, rank) {
  if (!hit.kind) return null;
  const what = { src: `media/${hit.row}` };
  const alt = `Result ${rank}: ${hit.captions.length ? hit.captions[0].text : hit.id}`;
  if (hit.kind === "image") return element("img", { ...what, alt, loading: "lazy" });
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const clip = element("video", { ...what, muted: true, loop: true, autoplay: !still, controls: still, playsInline: true });
  clip.setAttribute("aria-label", alt);
  // a codec that this browser has not: some frames, as a moving image
  clip.addEventListener("error", () => clip.replaceWith(element("img", { src: `preview/${hit.row}`, alt })), { once: true });
  return clip;
}

// A text among others, whichever way it is written.
const isolated = (text, attributes = {}) => element("bdi", attributes, text);

// Words whose absence lowers the score are underlined, the more the stronger.
async function explain(box, query, row, run) {
  const { text, words } = await ask(`words?${new URLSearchParams({ text: query, row, run })}`);
  box.textContent = "";
  if (!words.length) { box.append("One word alone carries the score."); return; }
  const most = Math.max(...words.map((word) => word.score), 1e-9);
  const letters = [...text];    // words are counted in code points, JavaScript's strings in halves of some
  const cut = (start, end) => letters.slice(start, end).join("");
  let at = 0;
  for (const word of words) {
    box.append(cut(at, word.start));
    const share = Math.max(0, word.score / most);
    const mark = element("mark", { title: `score without it: ${word.score > 0 ? "−" : "+"}${Math.abs(word.score).toFixed(3)}` },
      cut(word.start, word.end));
    mark.style.borderBottomWidth = `${Math.round(5 * share)}px`;
    box.append(mark);
    at = word.end;
  }
  box.append(cut(at));
}

function card(hit, rank, run, text, right) {
  const facts = element("div", { className: "facts" }, element("strong", {}, `${rank}`),
    element("span", { className: "score" }, hit.score.toFixed(3)));
  const parts = [media(hit, rank), facts, element("div", { className: "id" }, hit.id)].filter(Boolean);
  if (!hit.kind && hit.captions.length) {
    parts.push(element("p", { className: "first", dir: "auto", lang: hit.captions[0].lang }, hit.captions[0].text));
  }
  const more = element("details", {}, element("summary", {}, "Captions and words"));
  const why = element("p", { className: "why", dir: "auto" });
  if (text) {
    more.append(why);
    more.addEventListener("toggle", () => {
      if (more.open && !why.textContent) explain(why, text, hit.row, run).catch((error) => { why.textContent = error.message; });
    });
  }
  more.append(element("ul", {}, ...hit.captions.map((c) => element("li", { lang: c.lang, dir: "auto" }, c.text))));
  parts.push(more);
  return element("li", { className: right && right.row === hit.row ? "hit right" : "hit" }, ...parts);
}

function show(answers, text) {
  const section = by("answers");
  section.classList.toggle("two", answers.length > 1);
  section.replaceChildren(...answers.map((answer, run) => {
    const column = element("div", {}, element("h2", {}, answer.run));
    if (answer.right) {
      const said = `The picture that this caption was written for stands at rank ${answer.right.rank}.`;
      column.append(element("p", { className: answer.right.rank === 1 ? "good" : "" }, said));
    }
    if (answer.captions) {
      column.append(element("ul", { className: "captions" }, ...answer.captions.slice(0, 8).map((c) =>
        element("li", {}, element("span", { className: "score" }, c.score.toFixed(3)), " ", isolated(c.text, { lang: c.lang })))));
      column.append(element("h2", {}, "Pictures like it"));
    }
    column.append(element("ol", { className: "hits" },
      ...answer.hits.map((hit, n) => card(hit, n + 1, run, text, answer.right))));
    return column;
  }));
}

async function search() {
  const text = by("text").value, number = ++latest;
  history.replaceState(null, "", text ? `#${encodeURIComponent(text)}` : location.pathname);
  if (!text.trim()) { by("answers").replaceChildren(); status(""); return; }
  try {
    const found = await ask(`search?${new URLSearchParams({ text })}`);
    if (number !== latest) return;
    show(found.answers, text);
    const seen = found.translation ? [" Machine translation: ", isolated(found.translation)] : [];
    status(`${Math.round(found.seconds * 1000)} ms.`, ...seen);
  } catch (error) { if (number === latest) status(error.message); }
}

async function like(file) {
  const number = ++latest;
  status(`Looking at ${file.name} …`);
  try {
    const found = await ask(`like?${new URLSearchParams({ type: file.type })}`, { method: "POST", body: file });
    if (number !== latest) return;
    show(found.answers, "");
    status(`Captions and pictures nearest to ${file.name}.`);
  } catch (error) { if (number === latest) status(error.message); }
}

function use(text) {
  by("text").value = text;
  by("text").focus();
  search();
}

async function start() {
  const about = await ask("about");
  by("about").textContent = `${about.items.toLocaleString("en")} items.${about.langs.length ? ` The run knows ${about.langs.join(", ")}.` : ""}`;
  by("choose").hidden = !about.accepts_files;
  by("samples").hidden = !about.samples.length;
  by("samples").querySelector("ul").append(...about.samples.map((sample) => {
    const button = element("button", { type: "button", lang: sample.lang, dir: "auto" }, sample.text);
    button.addEventListener("click", () => use(sample.text));
    return element("li", {}, button);
  }));
  by("form").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  by("text").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(search, 80); });
  by("file").addEventListener("change", (event) => { if (event.target.files.length) like(event.target.files[0]); });
  if (about.accepts_files) {
    for (const name of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(name, (event) => {
        event.preventDefault();
        document.body.classList.toggle("over", name === "dragover");
        if (name === "drop" && event.dataTransfer.files.length) like(event.dataTransfer.files[0]);
      });
    }
  }
  if (location.hash.length > 1) use(decodeURIComponent(location.hash.slice(1)));
}

start().catch((error) => status(error.message));
