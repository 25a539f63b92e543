/* Keeps the chosen time while somebody fills in the form. Without this script a button of the form does. */
"use strict";

const HELD = "held";
const HOLDER = "holder";

/* What this tab remembers; a browser that lets nothing be stored remembers nothing. */
const memory = {
  get(name) {
    try {
      return JSON.parse(sessionStorage.getItem(name));
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      sessionStorage.setItem(name, JSON.stringify(value));
    } catch {}
  },
};

function holder() {
  const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const name = memory.get(HOLDER) || random();
  memory.set(HOLDER, name);
  return name;
}

function giveUp(holds, token) {
  memory.set(HELD, null);
  if (token) fetch(`${holds}/${encodeURIComponent(token)}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

function keeping(box) {
  const { holds, slot, type, zone, seconds, atOnce } = box.dataset;
  const { hold, holder: name } = box.closest("form").elements;
  const said = box.querySelector("[role=status]");
  const button = box.querySelector("button");
  let ends = Infinity;

  const say = (words, again) => {
    said.textContent = words;
    button.textContent = box.dataset.again;
    button.hidden = !again;
  };
  const look = () => {
    if (Date.now() < ends) return;
    ends = Infinity;
    say(box.dataset.over, true);
  };
  /* By how long is left, not by when: the clock of this device may be wrong. */
  const lasts = (milliseconds) => {
    ends = Date.now() + milliseconds;
    setTimeout(look, milliseconds + 50);
  };
  const keep = async () => {
    ends = Infinity;
    let answer;
    try {
      answer = await fetch(holds, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ slot, appointment_type: type, holder: name.value }),
      });
    } catch {
      return say("", false);
    }
    if (answer.status !== 201) return say(answer.status === 409 ? box.dataset.gone : "", false);
    const kept = await answer.json();
    hold.value = kept.hold;
    memory.set(HELD, { slot, token: kept.hold });
    if (atOnce !== undefined) {
      const here = new URL(location.href);
      here.searchParams.set("hold", kept.hold); // so that this page, opened anew, finds it again
      history.replaceState(null, "", here);
    }
    const until = new Date(kept.expires_at);
    const hour = new Intl.DateTimeFormat(document.documentElement.lang === "en" ? "en-US" : "es-US", {
      hour: "numeric",
      minute: "2-digit",
      timeZone: zone,
    });
    say(box.dataset.kept.replace("{time}", hour.format(until)), false);
    lasts(until - Date.parse(answer.headers.get("Date")));
  };

  const before = memory.get(HELD);
  if (before && before.slot !== slot) giveUp(holds, before.token);
  name.value ||= holder();
  button.hidden = true;
  button.addEventListener("click", (event) => {
    event.preventDefault();
    keep();
  });
  document.querySelector("[data-gives-up]")?.addEventListener("click", () => giveUp(holds, hold.value));
  document.addEventListener("visibilitychange", look);
  addEventListener("pageshow", (event) => event.persisted && atOnce !== undefined && keep());
  if (seconds !== undefined) {
    memory.set(HELD, { slot, token: hold.value });
    lasts(seconds * 1000);
  } else if (atOnce !== undefined) {
    keep();
  }
}

/* A time that is refused may be the one that this tab keeps: its page is opened with what shows that. */
function findAgain(slot) {
  const before = memory.get(HELD);
  const here = new URL(location.href);
  if (!before?.token || before.slot !== slot || here.searchParams.get("hold") === before.token) return;
  here.searchParams.set("hold", before.token);
  location.replace(here);
}

const box = document.querySelector("[data-holds]");
const refused = document.querySelector("[data-held-slot]");
if (box) keeping(box);
if (refused) findAgain(refused.dataset.heldSlot);
