// A turn is reviewed without the mouse: digits answer, Enter saves, s skips, c comments.
const form = document.querySelector("[data-review]");

function questions() {
  return [...form.querySelectorAll("[data-question]")];
}

// The question in hand: where the focus is, else the first without an answer.
function inHand() {
  const all = questions();
  const focused = document.activeElement?.closest("[data-question]");
  return focused || all.find((item) => !item.querySelector("input:checked")) || all[0];
}

function answer(digit) {
  const question = inHand();
  const choice = question?.querySelectorAll("input[type=radio]")[digit - 1];
  if (!choice) return;
  choice.checked = true;
  const all = questions();
  const next = all.slice(all.indexOf(question) + 1).find((item) => !item.querySelector("input:checked"));
  (next?.querySelector("input") || form.querySelector("[data-save]")).focus();
}

function isWriting(target) {
  return /^(TEXTAREA|SELECT)$/.test(target.tagName) || (target.tagName === "INPUT" && target.type !== "radio");
}

function act(event) {
  if (event.key === "Escape" && isWriting(event.target)) return form.querySelector("[data-save]").focus();
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return form.requestSubmit(form.querySelector("[data-save]"));
  if (isWriting(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^[1-9]$/.test(event.key)) answer(Number(event.key));
  else if (event.key === "s") form.querySelector("[data-skip]").click();
  else if (event.key === "c") form.querySelector("#comment").focus();
  else if (event.key === "Enter" && event.target.tagName !== "A" && event.target.tagName !== "BUTTON") {
    form.requestSubmit(form.querySelector("[data-save]"));
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

if (form) document.addEventListener("keydown", act, true);
