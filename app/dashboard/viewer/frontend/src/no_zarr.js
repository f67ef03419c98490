// Takes the place of zarrita, which niivue uses to read images in pieces from a server.

export {};
