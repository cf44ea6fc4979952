// Enlivens pages that already read well without it.
import { localTimes } from "./time.js";
import { keyboard } from "./keys.js";
import { charts } from "./chart.js";

function copyButtons(root) {
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      const label = button.lastChild;
      const before = label.textContent;
      label.textContent = "Copied";
      setTimeout(() => { label.textContent = before; }, 1400);
    });
  }
}

function foldOnNarrowScreens(root) {
  if (!window.matchMedia("(max-width: 1240px)").matches) return;
  for (const fold of root.querySelectorAll("[data-fold-narrow]")) fold.open = false;
}

// One open sheet at a time; a click elsewhere or Escape closes it.
function sheets() {
  const open = () => document.querySelectorAll("details.pop[open]");
  document.addEventListener("click", (event) => {
    for (const sheet of open()) if (!sheet.contains(event.target)) sheet.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") for (const sheet of open()) { sheet.open = false; sheet.querySelector("summary").focus(); }
  });
}

// A passage that is marked on the page becomes what a comment is about.
function quotes() {
  document.addEventListener("selectionchange", () => {
    const field = document.querySelector("[data-quote]");
    if (!field) return;
    const marked = document.getSelection();
    const within = marked.anchorNode?.parentElement?.closest(".text, .bubble, .doc");
    const said = within ? String(marked).trim().replace(/\s+/g, " ") : "";
    if (said && said.length <= field.maxLength) field.value = said;
  });
}

function enliven(root) {
  localTimes(root);
  copyButtons(root);
  charts(root);
}

enliven(document);
foldOnNarrowScreens(document);
sheets();
quotes();
keyboard();
document.body.addEventListener("htmx:load", (event) => {
  if (event.target !== document.body) enliven(event.target);
});
