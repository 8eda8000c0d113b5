"use strict";
const live = document.getElementById("live");
const filter = document.getElementById("filter");
const connection = document.getElementById("connection");

function applyFilter() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const item of document.querySelectorAll("[data-search]")) {
    const text = item.textContent.toLowerCase();
    item.hidden = !words.every((word) => text.includes(word));
  }
}

function formatDuration(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function showLocalTimes() {
  for (const time of live.querySelectorAll("time")) {
    time.title = new Date(time.dateTime).toLocaleString() + " local time";
  }
}

// Replaces only the live part, so that forms keep their input. Waits while text in it is selected or
// one of its buttons has the focus, and restores open details and their focus.
async function refresh() {
  try {
    const response = await fetch("/live", { cache: "no-store" });
    if (!response.ok) throw new Error(response.status);
    const text = await response.text();
    const selected = getSelection();
    const selecting = !selected.isCollapsed && live.contains(selected.anchorNode);
    const busy = live.contains(document.activeElement) && document.activeElement.matches("button");
    if (!selecting && !busy && text !== live.dataset.last) {
      const open = new Set([...live.querySelectorAll("details[open]")].map((item) => item.id));
      const focused = document.activeElement.closest?.("#live details")?.id;
      live.innerHTML = text;
      live.dataset.last = text;
      for (const item of live.querySelectorAll("details")) item.open = open.has(item.id);
      if (focused) document.getElementById(focused)?.querySelector("summary").focus();
      showLocalTimes();
      applyFilter();
    }
    connection.textContent = "";
  } catch {
    connection.textContent = "The emulator is not responding.";
  }
  setTimeout(refresh, 1000);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.dataset.copy || button.closest(".copyable").querySelector("pre").textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Press Ctrl-C";
    const range = document.createRange();
    range.selectNodeContents(button.closest("dd, .copyable").querySelector("code, pre"));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
});

filter.addEventListener("input", applyFilter);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.target.matches("input, select, textarea")) {
    event.preventDefault();
    filter.focus();
  }
});
setInterval(() => {
  for (const item of document.querySelectorAll("[data-countdown]")) {
    item.dataset.countdown = Math.max(0, item.dataset.countdown - 1);
    item.textContent = formatDuration(Number(item.dataset.countdown));
  }
}, 1000);
showLocalTimes();
setTimeout(refresh, 1000);
