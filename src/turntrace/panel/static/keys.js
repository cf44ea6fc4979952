// j and k move through rows, Enter opens, / searches, g then a letter goes to a page, ? lists all this.
const pages = { o: "", t: "traces", s: "sessions", u: "users", c: "cost" };
let waitsForPage = false;

function rowLinks() {
  return [...document.querySelectorAll("[data-rows] tbody a.turn-link, [data-rows] tbody a.row-link, a[data-row]")];
}

function move(step) {
  const links = rowLinks();
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  const chosen = at >= 0 ? at : links.findIndex((link) => link.getAttribute("aria-current") === "true");
  const next = links[Math.min(links.length - 1, Math.max(0, chosen < 0 ? 0 : chosen + step))];
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
  if (next.hasAttribute("data-row")) next.click();
}

function isTyping(target) {
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);
}

function act(event) {
  if (waitsForPage) {
    waitsForPage = false;
    if (event.key in pages) window.location.href = document.body.dataset.root + pages[event.key];
    return;
  }
  if (event.key === "j" || event.key === "k") move(event.key === "j" ? 1 : -1);
  else if (event.key === "g") waitsForPage = true;
  else if (event.key === "/") document.querySelector("[data-search]")?.focus();
  else if (event.key === "?") document.getElementById("keys-help")?.showModal();
  else return;
  event.preventDefault();
}

export function keyboard() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    act(event);
  });
  const help = document.getElementById("keys-help");
  help?.addEventListener("click", (event) => { if (event.target === help) help.close(); });
}
