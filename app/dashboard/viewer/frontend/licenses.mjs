// Prints the licence of every package that went into the bundle, as esbuild's metafile lists them. A package that
// ships no licence file has its text in the folder licenses.

import { readFileSync, readdirSync } from "node:fs";

const { inputs } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const found = Object.keys(inputs).map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
for (const name of [...new Set(found.filter(Boolean))].sort()) {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const own = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = readFileSync(own ? `${folder}/${own}` : `licenses/${name.replace("/", "-")}.txt`, "utf8").trim();
  console.log(`${name} ${version} (${license})\n\n${text}\n\n${"-".repeat(78)}\n`);
}
