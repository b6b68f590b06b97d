// Answers reviews with transformers.js, for tests/publishing/transformers_js.py.
//
// Standard input: {"folder": where runs lie, "run": one's name, "reviews": texts, and pairs as [text, text]}.
// Standard output: of "fp32" and "q8" the logits "as_loaded", and those "with_end", and the "tokens" of the latter.

import { readFileSync } from "node:fs";
import { AutoModelForSequenceClassification, AutoTokenizer, env } from "@huggingface/transformers";

const { folder, run, reviews } = JSON.parse(readFileSync(0, "utf-8"));
env.allowRemoteModels = false;
env.localModelPath = folder;

const tokenizer = await AutoTokenizer.from_pretrained(run);

function encode(review) {
  // It takes an empty second text for none. One of a blank has no tokens either.
  const [text, pair] = [review].flat();
  return tokenizer(text, { text_pair: pair === "" ? " " : pair, truncation: true });
}

// transformers.js cuts a long review once its special tokens are added, so that the last one is lost.
function withEnd(tokens) {
  const ids = tokens.input_ids.data;
  if (tokenizer.sep_token_id !== undefined && ids.length === tokenizer.model_max_length) ids[ids.length - 1] = BigInt(tokenizer.sep_token_id);
  return tokens;
}

const answers = { tokens: reviews.map((review) => Array.from(withEnd(encode(review)).input_ids.data, Number)) };
for (const dtype of ["fp32", "q8"]) {
  const model = await AutoModelForSequenceClassification.from_pretrained(run, { dtype });
  const logits = async (tokens) => (await model(tokens)).logits.tolist()[0];
  answers[dtype] = { as_loaded: [], with_end: [] };
  for (const review of reviews) {
    answers[dtype].as_loaded.push(await logits(encode(review)));
    answers[dtype].with_end.push(await logits(withEnd(encode(review))));
  }
}
console.log(JSON.stringify(answers));
