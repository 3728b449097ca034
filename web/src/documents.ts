// The server's documents, as far as the page reads them; /openapi.json describes them whole.

export interface Ladder {
  rungs: number[];
  range: [number, number] | null;
  adaptive: boolean;
}

export interface Model {
  id: string;
  foveate: {
    context: number;
    compressor: string | null;
    ladder: Ladder | null;
    image_size: number | [number, number] | null;
  };
}

/** What the client asks for: a number, the most that the time allows, or what the image needs. */
export type VisualTokens = number | "auto" | "adaptive";

export interface StageFlops {
  stage: string;
  flops: number;
}

export interface Count {
  text_tokens: number;
  image_tokens: number;
  new_tokens: number;
  visual_tokens: number | null;
  flops: number;
  flops_at_most: number;
  predicted_ms: number | null;
  stages: StageFlops[];
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details: { image_tokens: number; text_tokens: number; cached_tokens: number };
}

export interface Account {
  visual_tokens: number | null;
  compressor: string | null;
  flops: number;
  ms: { first_token: number; total: number; tower: number; prefill: number; decode_per_token: number | null };
}

/** What a stream says: some of it in each chunk. */
export interface Chunk {
  choices?: { delta: { content?: string }; finish_reason: string | null }[];
  usage?: Usage | null;
  foveate?: Account;
  error?: { message: string };
}

export interface Frame {
  left: number;
  top: number;
  width: number;
  height: number;
}

export interface LookPicture {
  visual_tokens: number;
  frame: Frame;
  kept: (number | null)[] | null;
  weights: number[][];
}

export interface Look {
  compressor: string;
  grid: [number, number];
  pictures: LookPicture[];
}

export interface Example {
  name: string;
  picture: string;
  questions: { text: string; answer: string }[];
}

export interface Candidate {
  model: string;
  params: number;
  visual_tokens: number;
  error: number;
  ci95: [number, number] | null;
  wins: number | null;
  extrapolates: string[];
  cost: {
    flops: number;
    ms: number | null;
    memory_bytes: number;
    stages: { stage: string; flops: number; ms: number | null }[];
  };
}

export interface Plan {
  ranked: Candidate[];
  frontier: Candidate[];
  half: Candidate | null;
  twice: Candidate | null;
  findings: string[];
}
