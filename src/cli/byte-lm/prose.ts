/** Typographic characters by their ASCII look-alikes. */
const asciiOf: [RegExp, string][] = [
  [/[\u2018\u2019]/g, "'"],
  [/[\u201c\u201d]/g, '"'],
  [/[\u2013\u2014]/g, '-'],
  [/\u2026/g, '...'],
  [/\u00a0/g, ' '],
];

/**
 * The paragraphs of English prose in a Markdown text, each on one line: no code, tables, headings, HTML,
 * images or link targets. What is left of a paragraph counts as prose when it has at least 30 characters
 * and nearly all of them are letters and ordinary punctuation.
 */
export function proseOf(markdown: string): string[] {
  const text = markdown
    .replace(/\r\n?/g, '\n')
    .replace(/^ *(```+|~~~+)[^]*?^ *\1.*$/gm, '\n')
    .replace(/<!--[^]*?-->/g, '')
    .replace(/<(pre|table|svg)\b[^]*?<\/\1>/gi, '\n')
    .replace(/<\/?[a-z][^>]*>/gi, '')
    .replace(/^(?: {4}|\t)(?! *[-*+\d]).*$/gm, '')
    .replace(/^.*\|.*$/gm, '')
    .replace(/^.+\n *(={3,}|-{3,}) *$/gm, '\n')
    .replace(/^ *#.*$/gm, '\n')
    .replace(/^ *\[[^\]]+\]:.*$/gm, '')
    .replace(/!\[[^\]]*\](\([^)]*\)|\[[^\]]*\])/g, '')
    .replace(/\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])/g, '$1')
    .replace(/^ *([-*+>]|\d+[.)]) +/gm, '\n')
    .replace(/https?:\/\/\S+/g, '')
    .replace(/&lt;/g, '<')
    .replace(/&gt;/g, '>')
    .replace(/&amp;/g, '&')
    .replace(/[`*]|\b_|_\b/g, '');
  return asciiOf
    .reduce((ascii, [from, to]) => ascii.replace(from, to), text)
    .split(/\n\s*\n/)
    .map(paragraph =>
      paragraph
        .replace(/[^\x20-\x7e\n]/g, '')
        .replace(/\s+/g, ' ')
        .trim(),
    )
    .filter(isProse);
}

function isProse(paragraph: string): boolean {
  const ordinary = paragraph.match(/[A-Za-z ,.'!?-]/g)?.length ?? 0;
  const words = paragraph.match(/\b[a-z]{2,}\b/g)?.length ?? 0;
  return paragraph.length >= 30 && words >= 5 && ordinary >= 0.9 * paragraph.length;
}
