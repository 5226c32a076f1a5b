// Sending what was read: as one archive, with word of how much is on its way.

import { keyHeader } from "../api.js";
import { Problem, problemOf } from "../problems.js";
import { t } from "../texts.js";
import { zipOf } from "../zip.js";

// Resolves to the dataset. `show` gets the share that is sent; an abort of the signal ends it. `fetch` would tell no share.
export async function send({ file, files }, { name, licence }, show, signal) {
  const body = new FormData();
  const named = files.map((each, index) => new File([each], `${index}-${each.name}`)); // two may have the same name
  body.append("images", file ?? (await zipOf(named)), `${name}.zip`);
  body.append("name", name);
  body.append("licence", licence);
  const sent = new XMLHttpRequest();
  sent.open("POST", "/datasets");
  for (const [header, value] of Object.entries(keyHeader())) sent.setRequestHeader(header, value);
  await new Promise((resolve, reject) => {
    sent.upload.onprogress = ({ loaded, total }) => show(loaded / total);
    sent.upload.onload = () => show(1);
    sent.onload = resolve;
    sent.onerror = () => reject(new Problem(t("noAnswer"), "unreachable"));
    sent.onabort = () => reject(signal.reason);
    signal.addEventListener("abort", () => sent.abort());
    sent.send(body);
  });
  if (sent.status === 201) return JSON.parse(sent.response);
  const headers = { "Retry-After": sent.getResponseHeader("Retry-After") ?? "" };
  throw await problemOf(new Response(sent.response, { status: sent.status, headers }));
}
