// Times in the viewer's zone; UTC stays in the title.
const two = (number) => String(number).padStart(2, "0");
const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

function local(at, mode) {
  const day = `${two(at.getDate())} ${months[at.getMonth()]}`;
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}`;
  if (mode === "date") return `${day} ${at.getFullYear()}`;
  if (mode === "minute") return `${day} ${clock}`;
  const seconds = `${clock}:${two(at.getSeconds())}`;
  if (mode === "full") return `${day} ${at.getFullYear()} ${seconds}`;
  return at.toDateString() === new Date().toDateString() ? seconds : `${day} ${seconds}`;
}

export function localTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = new Date(element.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    element.textContent = local(at, element.dataset.mode);
    element.title = `${element.dateTime.replace("T", " ").replace("Z", "")} UTC`;
  }
}
