"use strict";
const live = document.getElementById("live");
const filter = document.getElementById("filter");
const connection = document.getElementById("connection");

function sift() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const item of document.querySelectorAll("[data-search]")) {
    const text = item.textContent.toLowerCase();
    item.hidden = !words.every((word) => text.includes(word));
  }
}

function inWords(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function showLocalTimes() {
  for (const time of live.querySelectorAll("time")) {
    time.title = new Date(time.dateTime).toLocaleString() + " here";
  }
}

// Only the part that changes by itself is replaced: forms keep what somebody is typing. Nothing is
// replaced under a hand that uses it, and what was open or had the focus has it afterwards.
async function refresh() {
  try {
    const answer = await fetch("/live", { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const text = await answer.text();
    const selected = getSelection();
    const reading = !selected.isCollapsed && live.contains(selected.anchorNode);
    const busy = live.contains(document.activeElement) && document.activeElement.matches("button");
    if (!reading && !busy && text !== live.dataset.last) {
      const open = new Set([...live.querySelectorAll("details[open]")].map((item) => item.id));
      const focused = document.activeElement.closest?.("#live details")?.id;
      live.innerHTML = text;
      live.dataset.last = text;
      for (const item of live.querySelectorAll("details")) item.open = open.has(item.id);
      if (focused) document.getElementById(focused)?.querySelector("summary").focus();
      showLocalTimes();
      sift();
    }
    connection.textContent = "";
  } catch {
    connection.textContent = "The emulator does not answer.";
  }
  setTimeout(refresh, 1000);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.dataset.copy || button.closest(".copied").querySelector("pre").textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Press Ctrl-C";
    const range = document.createRange();
    range.selectNodeContents(button.closest("dd, .copied").querySelector("code, pre"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
});

filter.addEventListener("input", sift);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input, select, textarea")) {
    event.preventDefault();
    filter.focus();
  }
});
setInterval(() => {
  for (const item of document.querySelectorAll("[data-countdown]")) {
    item.dataset.countdown = Math.max(0, item.dataset.countdown - 1);
    item.textContent = inWords(Number(item.dataset.countdown));
  }
}, 1000);
showLocalTimes();
setTimeout(refresh, 1000);
