/**
 * The door for the packages of this project that build on the worker, such as testing. It is not for applications: what is
 * here may change at any time.
 */
export { type HandlerRunContext, type HandlerRunResult, runAlone } from './handler-run.js'
export type { ScriptCommand, TransactAnswer } from './redis/worker-scripts.js'
