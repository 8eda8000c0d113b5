"use strict";
// The server renders every view of the page. This script loads the same view again each second,
// and changes only the parts of the page that differ, so that focus, selected text, input and
// open details remain.
const element = (id) => document.getElementById(id);
const pause = element("pause");
let latestLoad = 0;
let loading = 0;

function localize(root) {
  for (const time of root.querySelectorAll("time")) {
    const date = new Date(time.dateTime);
    time.title = `${date.toLocaleString()} local time, ${time.dateTime}`;
    if ("clock" in time.dataset) time.textContent = date.toLocaleTimeString([], { hourCycle: "h23" });
  }
}

function morph(old, fresh) {
  if (old.isEqualNode(fresh) || old.dataset?.keep !== undefined) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morphChildren(old, fresh);
}

// Elements with an id match the one with the same id, others the next one of the same kind.
function morphChildren(old, fresh) {
  const ids = new Map([...old.children].filter((child) => child.id).map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const similar = at && !at.id && at.nodeName === child.nodeName ? at : null;
    const match = child.id ? ids.get(child.id) : similar;
    if (!match) {
      old.insertBefore(child, at);
      continue;
    }
    while (at && at !== match) at = removed(at);
    morph(match, child);
    at = match.nextSibling;
  }
  while (at) at = removed(at);
}

function removed(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

// Loads a view; returns whether the server accepted it. A later load replaces an earlier one.
async function load(url, options) {
  const number = ++latestLoad;
  loading += 1;
  try {
    const response = await fetch(url, { cache: "no-store", ...options });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!page.getElementById("requests")) throw new Error(response.status);
    if (number !== latestLoad) return false;
    localize(page);
    document.body.className = page.body.className;
    morphChildren(document.body, page.body);
    element("connection").textContent = "";
    if (options && response.redirected) history.replaceState(null, "", response.url);
    return response.ok;
  } catch {
    element("connection").textContent = "The emulator is not responding.";
    return false;
  } finally {
    loading -= 1;
  }
}

async function visit(url) {
  history.pushState(null, "", url);
  await show();
}

async function show() {
  await load(location.href);
  element("filters").reset(); // to the values of the view
}

async function refresh() {
  const paused = document.hidden || pause.getAttribute("aria-pressed") === "true";
  if (!paused && !loading) await load(location.href);
  setTimeout(refresh, 1000);
}

function announce(text) {
  element("announcement").textContent = text;
}

async function submit(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  form.closest("[popover]")?.hidePopover();
  const done = form.dataset.done;
  form.closest("[data-keep]")?.removeAttribute("data-keep"); // it keeps a form with errors
  if (await load(form.getAttribute("action"), { method: "POST", body })) {
    HTMLFormElement.prototype.reset.call(form); // a field is named reset
    announce(done);
  }
  const invalid = form.querySelector("[aria-invalid]");
  if (invalid) invalid.focus();
  else if (document.activeElement === document.body) document.querySelector(".pane, #requests").focus();
}

async function search() {
  const fields = [...new FormData(element("filters"))].filter(([, value]) => value);
  const query = new URLSearchParams(fields).toString();
  history.replaceState(null, "", query ? `/?${query}` : "/");
  await load(location.href);
  announce(element("count").textContent);
}

async function copy(button) {
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers offer the clipboard to secure pages only; this works on others.
    const area = document.body.appendChild(document.createElement("textarea"));
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const label = button.textContent;
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => (button.textContent = label), 1500);
}

// Moves the focus to the next or previous request, and shows it if a request is shown.
async function moveInList(link, step) {
  let row = link.closest("tr");
  do row = step > 0 ? row.nextElementSibling : row.previousElementSibling;
  while (row && !row.querySelector("a"));
  if (!row) return;
  const next = row.querySelector("a");
  next.focus();
  row.scrollIntoView({ block: "nearest" });
  if (/[?&]view=\d/.test(location.search)) {
    history.replaceState(null, "", next.href);
    await load(next.href);
  }
}

async function closePane() {
  const close = document.querySelector(".pane .close");
  if (!close) return;
  const row = document.querySelector("tr.open a");
  const tab = document.querySelector("header [aria-current]");
  await visit(close.href);
  (row ?? tab)?.focus();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) return copy(button);
  const link = event.target.closest("a[href^='/']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  if (link.matches(".close")) return closePane();
  await visit(link.href);
  if (link.closest(".pages")) {
    document.querySelector(".rows")?.scrollTo(0, 0);
    element("requests").scrollIntoView();
    return;
  }
  // A click keeps the focus on the link, so that the arrow keys go on from there.
  if (event.detail === 0) document.querySelector(".pane")?.focus();
});
document.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.target.id === "filters") search();
  else submit(event.target, event.submitter);
});
let typing;
document.addEventListener("input", (event) => {
  if (!event.target.closest("#filters")) return;
  clearTimeout(typing);
  typing = setTimeout(search, 150);
});
document.addEventListener("keydown", (event) => {
  const typed = event.target.matches("input, select, textarea");
  if (event.key === "/" && !typed) {
    event.preventDefault();
    document.querySelector("#filters [name=search]").focus();
  } else if (event.key === "Escape" && !typed && !document.querySelector(":popover-open")) {
    closePane();
  } else if (["ArrowDown", "ArrowUp"].includes(event.key) && event.target.matches("#rows a")) {
    event.preventDefault();
    moveInList(event.target, event.key === "ArrowDown" ? 1 : -1);
  }
});
pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", paused);
  if (!paused) load(location.href);
});
addEventListener("popstate", show);
pause.hidden = false;
localize(document);
setTimeout(refresh, 1000);
