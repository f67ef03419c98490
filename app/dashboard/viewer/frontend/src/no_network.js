// Takes the place of fetch and of everything else that could reach another machine, in this code and in niivue's.

export function noNetwork() {
  throw new Error("The viewer uses no network: images come with the page.");
}
