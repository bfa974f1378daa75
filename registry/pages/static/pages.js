// What pages do a little better with a script: times in the reader's zone, and buttons that copy.
// Without it times are UTC, and there are no such buttons.
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
document.addEventListener("htmx:load", (event) => tell(event.target));
tell(document);
