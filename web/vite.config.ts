import { defineConfig } from "vite";

// The server that `npm run dev` asks: `foveate serve`.
const server = "http://127.0.0.1:8080";

export default defineConfig({
  // Relative, so that the page also works behind a proxy that gives it a path.
  base: "./",
  build: {
    outDir: "../crates/serve/page",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    // Of what is built in: their licences want to go with it.
    license: { fileName: "page/licences.md" },
    rollupOptions: {
      // Names without a digest: the server's ETags say what is new, and a change of the page is a change of three files.
      output: {
        entryFileNames: "page/page.js",
        assetFileNames: "page/page[extname]",
      },
    },
  },
  server: {
    proxy: {
      "/v1": server,
      "/page/examples.json": server,
      "/docs": server,
      "/openapi.json": server,
    },
  },
});
