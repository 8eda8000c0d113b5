// Let readers paste error messages into the search. Lunr interprets characters such as the colon in
// "AADSTS700024: …" as operators and then finds nothing. URLs, GUIDs, numbers and
// frequent words of a message only hide the words that identify it.
const FREQUENT = new Set(
  ("a an and are as at be by check error errors exception exceptions failed for from has have http in is it make " +
    "more not of on or please returned requested resource service sure that the this to was were with").split(" "),
);

document.addEventListener("paste", (event) => {
  const input = event.target;
  if (!(input instanceof HTMLInputElement) || input.dataset.mdComponent !== "search-query") return;
  const text = event.clipboardData.getData("text/plain");
  if (!/\s/.test(text.trim())) return; // one word: leave it unchanged
  event.preventDefault();
  const words = text
    .replace(/https?:\/\/\S+|[0-9a-f]{8}-[0-9a-f-]{20,}|0x[0-9a-f]+|[\w.]*\.(?=[A-Z])/gi, " ")
    .replace(/[^\p{L}\p{N}_.']+/gu, " ")
    .split(" ")
    .map((word) => word.replace(/^[.']+|[.']+$/g, ""))
    .filter((word) => word.length > 1 && !/^[\d.]+s?$/.test(word));
  const rare = words.filter((word) => !FREQUENT.has(word.toLowerCase()));
  input.setRangeText((rare.length > 1 ? rare : words).slice(0, 40).join(" "), input.selectionStart, input.selectionEnd, "end");
  input.dispatchEvent(new Event("keyup", { bubbles: true }));
});
