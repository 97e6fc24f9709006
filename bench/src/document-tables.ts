/** Puts the tables of a run into a document, between markers that name a scenario. */
import type { Figure } from './figure.js'
import { formatMarkdown } from './results-table.js'

/** `<!-- begin table NAME -->` ... `<!-- end table -->`: what is between is replaced; a scenario not run stays. */
export function replaceTables(document: string, figures: readonly Figure[]): string {
  return document.replace(
    /(<!-- begin table (\S+) -->\n)[\s\S]*?(<!-- end table -->)/g,
    (all, begin: string, name: string, end: string) => {
      const of = figures.filter(({ scenario }) => scenario === name)
      return of.length === 0 ? all : `${begin}\n${formatMarkdown(of)}\n\n${end}`
    },
  )
}
