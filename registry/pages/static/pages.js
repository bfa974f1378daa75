// What pages do a little better with a script: times in the reader's zone, buttons that copy, and the key / for
// the search. Without it times are UTC, and there are no such buttons.
"use strict";
const zoned = new Intl.DateTimeFormat(undefined, {dateStyle: "medium", timeStyle: "long"});
const tell = (root) => {
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.title = zoned.format(new Date(time.dateTime));
  }
  for (const button of root.querySelectorAll("button[data-copy]")) {
    button.hidden = !navigator.clipboard;
  }
};
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (button) {
    await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
    button.classList.add("done");
  }
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  event.preventDefault();
  const field = document.querySelector("input[data-search]");
  if (field) {
    field.focus();
  } else {
    location.assign("/search#words");
  }
});
if (location.hash === "#words") {
  document.querySelector("input[data-search]")?.focus();
}
document.addEventListener("htmx:load", (event) => tell(event.target));
tell(document);
