/**
 * `npm run plots -- RESULTS.json FOLDER DOCUMENT.md`: draws the plots of a run of the bench into a folder, and puts its
 * tables into a document.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { replaceTables } from './document-tables.js'
import type { Figure } from './figure.js'
import { drawLinePlot, type LinePlot, type Series } from './line-plot.js'

/** Which figures a plot shows: those whose text begins like this, one series for each name. */
interface PlotPlan {
  readonly file: string
  readonly plot: Omit<LinePlot, 'series'>
  readonly scenario: string
  readonly series: readonly {
    readonly name: string
    readonly begins: string
    readonly ends?: string
    /** Leaves out what holds this. */
    readonly without?: string
  }[]
  /** One series per peer instead, for the one beginning that is given. */
  readonly byPeer?: boolean
}

const PLANS: readonly PlotPlan[] = [
  {
    file: 'cost-of-owning.svg',
    plot: {
      title: 'What owning streams costs Redis, at rest',
      xLabel: 'streams owned by one client',
      yLabel: 'processor time, ms per second',
    },
    scenario: 'heartbeat',
    series: [{ name: '', begins: 'Redis processor time to own', without: 'look' }],
    byPeer: true,
  },
  {
    file: 'takeover-by-streams.svg',
    plot: {
      title: 'SIGKILL to all owned again by 9 clients (TTL 2 s)',
      xLabel: 'streams of the killed client',
      yLabel: 'milliseconds',
    },
    scenario: 'growth',
    series: [{ name: 'ours, auto mode', begins: 'takeover of', ends: 'by 9 clients' }],
  },
  {
    file: 'takeover-by-clients.svg',
    plot: {
      title: 'A takeover of 1,000 streams, by the number of survivors',
      xLabel: 'surviving clients',
      yLabel: 'milliseconds; commands per stream',
    },
    scenario: 'growth',
    series: [
      {
        name: 'SIGKILL to all owned again, ms',
        begins: 'takeover of 1000 streams by',
        without: 'by 9 clients',
      },
      { name: 'all had lost Redis: to all owned again, ms', begins: '1000 streams owned again by' },
      { name: 'commands in Redis per stream', begins: 'commands per stream, takeover' },
    ],
  },
  {
    file: 'rest-by-clients.svg',
    plot: {
      title: 'A fleet at rest, by its size',
      xLabel: 'clients',
      yLabel: 'per second',
    },
    scenario: 'growth',
    series: [
      { name: 'commands sent by all clients', begins: 'commands sent,' },
      { name: 'heartbeats sent by each client', begins: 'heartbeats sent per client,' },
      { name: 'probes that read the roster', begins: 'probe scripts' },
      { name: 'Redis processor time, ms', begins: 'Redis processor time,' },
    ],
  },
]

const [file, folder, document] = process.argv.slice(2).filter((argument) => argument !== '--')
if (file === undefined || folder === undefined || document === undefined) {
  process.stderr.write('npm run plots -- RESULTS.json FOLDER DOCUMENT.md\n')
  process.exitCode = 2
} else {
  const { figures } = JSON.parse(await readFile(file, 'utf8')) as { figures: Figure[] }
  await mkdir(folder, { recursive: true })
  for (const plan of PLANS) {
    const series = seriesOf(plan, figures)
    if (series.length > 0) await writeFile(join(folder, plan.file), drawLinePlot({ ...plan.plot, series }))
  }
  await writeFile(document, replaceTables(await readFile(document, 'utf8'), figures))
}

function seriesOf({ byPeer, scenario, series }: PlotPlan, figures: readonly Figure[]): Series[] {
  const found = series.flatMap(({ begins, ends, name, without }) => {
    const matching = figures.filter(
      (figure) =>
        figure.scenario === scenario &&
        figure.x !== undefined &&
        figure.what.startsWith(begins) &&
        figure.what.endsWith(ends ?? '') &&
        (without === undefined || !figure.what.includes(without)),
    )
    const names = byPeer === true ? [...new Set(matching.map(({ peer }) => peer))] : [name]
    return names.map((each) => ({
      name: each,
      points: pointsOf(matching, byPeer === true ? each : undefined),
    }))
  })
  return found.filter(({ points }) => points.length > 1)
}

function pointsOf(figures: readonly Figure[], peer: string | undefined): [number, number][] {
  return figures
    .filter((figure) => peer === undefined || figure.peer === peer)
    .map(({ median, x }): [number, number] => [x as number, median])
    .sort(([a], [b]) => a - b)
}
