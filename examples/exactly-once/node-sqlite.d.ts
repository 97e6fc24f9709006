/** What the examples use of node:sqlite: the types of Node 20, with which they are checked, do not have it. */
declare module 'node:sqlite' {
  export class DatabaseSync {
    constructor(path: string)
    exec(sql: string): void
    prepare(sql: string): StatementSync
    close(): void
  }
  export interface StatementSync {
    run(...values: (string | number)[]): { changes: number | bigint }
    get(...values: (string | number)[]): Record<string, unknown> | undefined
  }
}
