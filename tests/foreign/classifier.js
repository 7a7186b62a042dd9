// A classifier of one column: positive or not.
export const classifier = {
  open(config, model) {
    return { columns: [{ name: 'x', kind: { tag: 'number' } }], classes: ['a', 'b'] };
  },
  classify(rows) {
    const labels = new Uint32Array(rows.values.length), scores = new Float32Array(2 * labels.length);
    for (let row = 0; row < labels.length; row++) {
      labels[row] = rows.values[row] > 0 ? 1 : 0;
      scores[2 * row + labels[row]] = 1;
    }
    return { labels, scores, rejected: [] };
  },
};
