// Builds the page: `node build.mjs [--out FOLDER]`, or runs the unit tests: `node build.mjs --test`.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: { out: { type: "string", default: join(here, "..", "static") }, test: { type: "boolean", default: false } },
});
const common = {
  absWorkingDir: here,
  bundle: true,
  logLevel: "warning",
  jsx: "automatic",
  jsxImportSource: "preact",
  loader: { ".shadow.css": "text" },
};

if (values.test) {
  const folder = mkdtempSync(join(tmpdir(), "labctl-page-test-"));
  try {
    const tests = readdirSync(join(here, "test")).filter((name) => name.endsWith(".test.ts"));
    await build({
      ...common,
      entryPoints: tests.map((name) => `test/${name}`),
      outdir: folder,
      outExtension: { ".js": ".mjs" },
      format: "esm",
      platform: "node",
      target: "node20",
      sourcemap: "inline",
    });
    const files = readdirSync(folder).map((name) => join(folder, name));
    const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit" });
    process.exitCode = run.status ?? 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
} else {
  mkdirSync(values.out, { recursive: true });
  const { metafile } = await build({
    ...common,
    metafile: true,
    entryPoints: ["src/view.tsx", "src/view.css"],
    outbase: join(here, "src"),
    outdir: values.out,
    format: "esm",
    target: ["chrome123", "firefox120", "safari17.5"], // the first with the CSS function light-dark()
    minify: true,
    legalComments: "none",
    charset: "utf8",
  });
  copyFileSync(join(here, "src", "index.html"), join(values.out, "index.html"));
  // the licence of each package of which a file is in view.js
  const names = new Set(
    Object.keys(metafile.inputs).flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []),
  );
  const licenses = [...names].sort().map((name) => {
    const folder = join(here, "node_modules", name);
    const { version, license, homepage } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const text = readFileSync(join(folder, "LICENSE"), "utf8");
    return `view.js contains ${name} ${version} (${license}, ${homepage}):\n\n${text}`;
  });
  writeFileSync(join(values.out, "third-party-licenses.txt"), licenses.join("\n\n"));
}
