// Every two seconds the page is asked for again, and what carries data-live takes over what is new.
(() => {
  const live = document.querySelector(".live"), words = document.getElementById("state");
  const button = document.querySelector(".live button");
  let paused = false, state = "";
  const say = (next, text) => {
    if (next !== state) { state = next; live.dataset.state = next; words.textContent = text; }
  };
  const ask = async () => {
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (paused) return;
      for (const old of document.querySelectorAll("[data-live]")) {
        const now = fresh.querySelector(`[data-live="${old.dataset.live}"]`);
        if (now && now.innerHTML !== old.innerHTML) old.innerHTML = now.innerHTML;
      }
      say("live", "Live: follows what is marked");
    } catch {
      if (!paused) say("lost", "Not up to date: asking again");
    }
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? "Go on updating" : "Pause updates";
    if (paused) say("paused", "Paused"); else ask();
  });
  setInterval(() => { if (!paused && !document.hidden) ask(); }, 2000);
  ask();
})();
