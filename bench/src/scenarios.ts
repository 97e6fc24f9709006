/** All scenarios, in the order in which they run. */
import type { Scenario } from './scenario.js'
import { assignment } from './scenarios/assignment.js'
import { crowd } from './scenarios/crowd.js'
import { crowd1000 } from './scenarios/crowd-1000.js'
import { rollingRestart, surge } from './scenarios/deploys.js'
import { growth } from './scenarios/growth.js'
import { handoff } from './scenarios/handoff.js'
import { heartbeat } from './scenarios/heartbeat.js'
import { massTakeover } from './scenarios/mass-takeover.js'
import { memory } from './scenarios/memory.js'
import { records } from './scenarios/records.js'
import { reference } from './scenarios/reference.js'
import { scaleOut } from './scenarios/scale-out.js'
import { startTogether } from './scenarios/start-together.js'
import { takeover } from './scenarios/takeover.js'

export const SCENARIOS: readonly Scenario[] = [
  heartbeat,
  takeover,
  massTakeover,
  handoff,
  assignment,
  memory,
  scaleOut,
  rollingRestart,
  surge,
  startTogether,
  growth,
  crowd,
  crowd1000,
  reference,
  records,
]
