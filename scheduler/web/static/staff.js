/* What staff pages do beside plain forms: passkeys, and the lock of a page that nobody uses. */
"use strict";

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

/* WebAuthn speaks in bytes, JSON in base64url. */
function decoded(options) {
  const named = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));
  const answer = { ...options, challenge: bytes(options.challenge) };
  if (options.user) answer.user = { ...options.user, id: bytes(options.user.id) };
  if (options.excludeCredentials) answer.excludeCredentials = named(options.excludeCredentials);
  if (options.allowCredentials) answer.allowCredentials = named(options.allowCredentials);
  return answer;
}

function encoded(credential) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (credential.response[name]) response[name] = text(credential.response[name]);
  }
  return JSON.stringify({
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    response,
    clientExtensionResults: credential.getClientExtensionResults(),
  });
}

async function usePasskey(form) {
  if (form.querySelector(":invalid")) return form.reportValidity();
  try {
    const options = form.dataset.options || (await (await fetch(form.dataset.optionsAt)).text());
    const publicKey = decoded(JSON.parse(options));
    const credential = await navigator.credentials[form.dataset.passkey]({ publicKey });
    form.querySelector("[data-credential]").value = encoded(credential);
  } catch {
    form.querySelector("[data-credential]").value = "refused";
  }
  form.requestSubmit();
}

if (window.PublicKeyCredential) {
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    for (const hidden of form.querySelectorAll("[hidden]")) hidden.hidden = false;
    form.querySelector("[data-use-passkey]").addEventListener("click", () => usePasskey(form));
  }
}

/* The page locks when the session does. What was typed stays in it, unseen until its owner is back. */
const MINUTE = 60_000;
const idle = document.getElementById("idle");
const lock = document.getElementById("locked");

function watch() {
  const main = document.querySelector("main");
  let used = Date.now();
  let told = Date.now();
  const stay = async () => {
    used = told = Date.now();
    if (idle.open) idle.close();
    await fetch(idle.dataset.touch, { headers: { Accept: "application/json" } });
  };
  const note = () => {
    if (lock.open || idle.open) return;
    used = Date.now();
    if (used - told > MINUTE) stay();
  };
  const look = () => {
    const still = Date.now() - used;
    if (lock.open) return;
    if (still >= 15 * MINUTE) {
      if (idle.open) idle.close();
      main.hidden = true;
      lock.showModal();
    } else if (still >= 13 * MINUTE && !idle.open) {
      idle.showModal();
    }
  };
  for (const kind of ["keydown", "pointerdown", "scroll"]) document.addEventListener(kind, note, { passive: true });
  document.addEventListener("visibilitychange", look);
  idle.querySelector("[data-stay]").addEventListener("click", stay);
  idle.addEventListener("cancel", stay);
  lock.addEventListener("cancel", (event) => event.preventDefault());
  lock.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(new FormData(form)),
      headers: { Accept: "application/json" },
    });
    if (answer.redirected) {
      location.reload();
    } else if (answer.status === 204) {
      form.reset();
      lock.close();
      main.hidden = false;
      used = told = Date.now();
    } else {
      document.getElementById("unlock-problem").textContent = lock.dataset.wrong;
    }
  });
  setInterval(look, 5_000);
}

if (idle && lock) watch();
