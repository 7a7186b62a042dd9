// Makes classifier.js a component, as componentize-js documents it: `node build.mjs WIT`.
import { componentize } from '@bytecodealliance/componentize-js';
import { readFile, writeFile } from 'node:fs/promises';

const source = await readFile('classifier.js', 'utf8');
const { component } = await componentize(source, { witPath: process.argv[2], worldName: 'classifier-plugin' });
await writeFile('plugin.wasm', component);
