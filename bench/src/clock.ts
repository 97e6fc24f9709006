/** A clock that all processes of this machine share and nobody sets. */
export function sharedNowMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000
}
