"""Every sentence the Python side shows, in one place. Short, true, no exclamation marks.

The canvas's own words are in `assets/canvas.html` and `assets/canvas.js`.
"""

__all__ = ["count", "kilobytes"]

TIMES = "\u00d7"

TITLE = "Drag-and-Drop LLMs"
TAGLINE = "Prompts in, LoRA adapter out. No gradient step."
HERO = "Drop prompts. Get an adapter. See if it works."
HERO_MORE = (
    "A generator reads your unlabeled prompts and writes a LoRA adapter for a small language "
    "model, with no training run. Then you compare base and adapted answers and see how far to "
    "trust the result."
)
FOOTER = "Your files stay in this session and are deleted when it ends."

# Loading the engine
LOADING = "Loading the base model"
DOWNLOADING = "Downloading the base model"
LOAD_FAILED = "The base model did not load."
LOAD_HINT = "You can drop and arrange prompt files meanwhile."
RETRY = "Retry"
DEVICE_READY, DEVICE_LOADING, DEVICE_FAILED = "Ready", "Loading", "Failed"

# Examples
EXAMPLES = "No files at hand?"
EXAMPLES_MORE = "Each example puts its files in a bucket. We wrote them for this page."
EXAMPLE_LOAD = "Load"
EXAMPLE_LOAD_ALL = "Load all three"

# Action bar
SYNTHESIZE = "Synthesize"
STOP = "Stop"
MIX = "Mix"
MIX_POOL, MIX_SUM = "Pool prompts", "Sum adapters"
MIX_INFO = (
    "Pool: one adapter from all prompts, drawn in proportion to the weights. "
    "Sum: one adapter a bucket, added by weight and cut back to one rank."
)
ADVANCED = "Advanced"
SEED = "Seed"
SEED_INFO = "Of the draw of the prompt batch. Same prompts and seed, same adapter."
HINT_NO_BUCKET = "Add a bucket first."
HINT_NO_PROMPTS = "Drop prompt files first."
HINT_UNREADABLE = "No file can be read yet."
HINT_READING = "Reading files."

# Stages
STAGES = {
    "wait": ("Queue", "Waiting for the engine"),
    "download": ("Download", "Base model and text encoder, once"),
    "load": ("Load", "Base model, encoder, generator"),
    "read": ("Read prompts", ""),
    "encode": ("Encode", "Prompts through the text encoder"),
    "decode": ("Decode", "Weight tokens to a LoRA"),
    "ask": ("Ask", "The base answers your full prompts"),
    "refine": ("Refine", "Training on your prompts"),
    "check": ("Check", "Reload with stock PEFT, compare"),
}
RUNS = {
    "synthesis": {
        "running": "Making the adapter",
        "done": "How it was made",
        "stopped": "Stopped. Nothing was made, and your prompts are as they were.",
        "failed": "No adapter was made.",
    },
    "remix": {
        "running": "Mixing anew",
        "done": "How it was mixed",
        "stopped": "Stopped. The adapter is as it was before.",
        "failed": "Not mixed anew; the adapter is as it was.",
    },
    "refinement": {
        "running": "Refining the adapter",
        "done": "How it was refined",
        "stopped": "Stopped. The adapter is as it was before.",
        "failed": "Not refined; the adapter is as it was.",
    },
}
BROKE = "Something broke that should not have. The log of the app has the details; try again."
PREPARING = "Preparing the zip"
PREPARE_HINT = "Written, reloaded with stock PEFT and compared before it is offered."

# Adapter bar
SHELF = "Adapters of this visit"
STRENGTH = "Strength"
STRENGTH_INFO = "0 is base. Acts on the next word."
STRENGTH_STRONG = "Strong: answers may turn to garble."
DOWNLOAD = "Download PEFT zip"
DOWNLOAD_ANYWAY = "Download anyway"
DOWNLOAD_FAILED = "No zip"
STALE = "Made from earlier prompts."

# Refine
REFINE = "Refine"
REFINE_MORE = (
    "Trains this adapter for under a minute on your own prompts, without labels: the base "
    "model reads each full prompt and teaches the adapter to answer without the instruction."
)
REFINE_NEEDS = "It needs a blank line between instruction and input, in 8 prompts or more."
REFINE_START = "Start refining"
REFINE_LATER = "Not now"
REFINE_LABELS = "Learn from the labels"
REFINE_LABELS_INFO = "Your files have some. Off, the base's own answers are learnt."
REFINED = "refined"
UNDO = "Undo refine"

# Compare
COMPARE = "Compare"
COMPARE_MORE = "One batch, same seed, same prompt on both sides."
COMPARE_BASE_ONLY = (
    "You can chat with the base model now. The adapted answer appears beside it after Synthesize."
)
BASE, ADAPTED = "Base", "Adapted"
ASK = "Ask both models"
SEND, CLEAR = "Send", "Clear"
BESIDE = "Compare with"
OTHER = "Other adapter"
DIFFERENCES = "Differences"
DIFFERS = "not in the other answer"
FORK = "from here on hardly a word is shared"
AGAIN = "Ask again"
AGAIN_SIDE = "Ask {side} again"
EDIT = "Edit and send anew"
COPY = "Copy the last answer"
COPY_SIDE = "Copy the last answer of {side}"
CHANGED_TO = "then"
LEFT_OUT = "left out on this side"
ASK_MODE = "What is sent"
ASK_MODE_INFO = "The instruction is what stands before the first blank line."
ASK_MODES = {
    "written": "As written",
    "bare": "Without the instruction",
    "told": "Instruction to the left only",
}
BLIND = "Blind"
BLIND_SIDES = ("A", "B")
VOTES = {"a": "A is better", "b": "B is better", "tie": "Tie", "bad": "Both bad"}
VOTED_BETTER = "better"
VOTES_TITLE = "Votes"
VOTES_MORE = (
    "The two change places at random, and who is who is told after each vote. The strength stays "
    "as it is meanwhile."
)
VOTE_TOLD = {"right": "won", "left": "lost", "tie": "tied", "bad": "both bad"}
VOTES_NONE = "No vote for either yet."
VOTES_FEW = "Too few votes to tell."
WIN_RATE = "Won {share:.0f} % of the votes that chose one (95 % interval {low:.0f} to {high:.0f})."
VERSUS = "against"
KEEP = "Keep the conversation:"
KEEPS = {"markdown": "Markdown", "json": "JSON", "votes": "Votes, JSONL"}
TRANSCRIPT_QUESTION = "Question"
TRANSCRIPT_VOTE = "Better, judged blind"
EMPTY_BASE = "The base model's answers appear here."
EMPTY_ADAPTED = "No adapter yet. Its answers will appear here, beside the base model's."
EMPTY_ADAPTED_READY = "Ask without the instruction, as in your files: the adapter should carry it."
ASKED_BEFORE = "Asked before there was an adapter."
SAME = "same as base, token for token"
STOPPED_TURN = "stopped"
TRY = "Try:"
SAMPLING = "Sampling"
SYSTEM_PROMPT = "System prompt"
MAX_TOKENS = "Tokens at most"
TEMPERATURE = "Temperature"
TEMPERATURE_INFO = "0 is greedy."
TOP_P, TOP_K = "Top p", "Top k"
TOP_K_INFO = "0 keeps all."
PENALTY = "Repetition penalty"
CONTEXT = "Send earlier turns as context"
CONTEXT_INFO = "Off: each question stands alone, as in the training of the generator."

# Checks
CHECKS = "Checks"
CHECKS_NONE = (
    "No adapter yet. Here you will see whether it changes the model, whether it carries your "
    "instruction, and where the weights changed."
)
CHECKS_RUNNING = "Measuring on your prompts. You can chat meanwhile."
CHECKS_FAILED = "Could not be measured."
VERDICTS = {
    "changes": ("Changes the model", "Answers to prompts like yours will differ from base."),
    "nothing": ("Does nothing measurable", "Below 0.01 answers hardly ever differ from base."),
    "strongest": (
        "Changes the model unusually much",
        "Answers may turn to garble; try a lower strength.",
    ),
    "carries": (
        "Carries the instruction",
        "On your prompts it answers without the instruction as the model does with it.",
    ),
    "carries_some": (
        "Carries the instruction in part",
        "Only sometimes it answers without the instruction as the model does with it.",
    ),
    "carries_none": (
        "Does not carry the instruction",
        "Without the instruction it answers your prompts otherwise than the model does with it.",
    ),
    "refined": (
        "Refined on your prompts",
        "It was taught to answer them without the instruction. Try others.",
    ),
    "untold": (
        "No instruction to leave out",
        "It takes a prompt with a blank line between instruction and input, of at most 256 tokens, "
        "to tell whether the adapter carries the instruction.",
    ),
}
OUTLOOK = (
    "On {n_tasks} with about as much agreement, adapters changed the score by {gain:+.2f} "
    "({low:+.2f} to {high:+.2f}) without the instruction."
)
OUTLOOK_RANKS = "Rank correlation of agreement and gain: {correlation:+.2f}."
WARNING = "This adapter is unlikely to help."
WARNINGS = {
    "nothing": "It leaves the model as it was.",
    "carries_none": "It does not carry your instruction.",
}
WARNING_TRY = (
    "You can refine it below, add prompts (16 or more work best), or raise the strength. "
    "Your files are fine."
)
WARNING_TRY_REFINED = (
    "You can undo, add prompts (16 or more work best), or raise the strength. Your files are fine."
)
EFFECT = "Effect on the model"
EFFECT_MORE = "KL from base to adapted, nats on the next token of your own prompts."
NEAREST = "Nearest training tasks, cosine"
NORMS = "Relative weight change"
NORMS_MORE = "‖ΔW‖ / ‖W‖ by layer and matrix. It shows where and how much, not how well."

PROOF = "Does it read your prompts?"
PROOF_MORE = (
    "Makes adapters from other prompts, and from yours with the words shuffled, and puts them "
    "beside this one on up to 16 of your prompts. Takes a few seconds."
)
PROOF_RUN, PROOF_AGAIN = "Find out", "Measure again"
PROOF_STEPS = {"decode": "Making the others:", "check": "Measuring:"}
PROOF_MEASURE = (
    "Nats per token that this adapter saves on the answers the model gives when it is told the "
    "instruction, with 95 % intervals. Right of 0 this adapter is better. Measured on {prompts} "
    "that it was made from."
)
PROOF_CONTROLS = {
    "wrong": "Made from other prompts ({names})",
    "mean": "What all adapters share",
    "shuffled": "Made from shuffled words",
    "base": "No adapter",
}
PROOF_YES = "Yes. Other prompts, and what all adapters share, do clearly worse."
PROOF_NO = {
    "wrong": "Not shown: one made from other prompts does about as well.",
    "mean": "Not shown: what all adapters of this generator share does about as well.",
}
PROOF_WORDS_ONLY = "The order of the words hardly matters: shuffled, they do about as well."
PROOF_NONE = "It takes two prompts with a blank line between instruction and input to find out."

# Report card
REPORT_TITLES = {
    "heldout": "How good is this generator on unseen tasks?",
    "train": "How good is it on tasks it was trained on?",
}
REPORT_SPLITS = {"heldout": "Unseen tasks", "train": "Seen in training"}
REPORT_HOLDOUTS = {
    "family": "New family",
    "primitive": "New operation",
    "composition": "New combination",
    "pair": "New pair of known task and format",
    "format": "Unseen format",
}
REPORT_METRICS = {"score": "Score", "format_share": "Right format", "nll": "Loss"}
REPORT_METRIC_NOTES = {
    "score": "The task's own metric, 0 to 1. Marks are means, bars 95 % intervals over families.",
    "format_share": "Share of answers in the format asked for, of tasks that have one.",
    "nll": "Nats per token of the reference answer. Lower is better.",
}
REPORT_ABOUT = "It is about the generator; the Workbench checks your own prompts."
REPORT_GROUP, REPORT_METRIC = "Tasks", "Measure"
REPORT_ROWS = {
    "base": "Base",
    "few_shot": "Base, few-shot prompt",
    "mean_lora": "Mean of training LoRAs",
    "nearest_lora": "Nearest task's LoRA",
    "multi_task_lora": "Multi-task LoRA",
    "shared_lora": "Generator's shared part",
    "generator_constant": "Generator, constant prompt",
    "generator_wrong": "Generator, wrong prompts",
    "generator_shuffled": "Generator, shuffled words",
    "generator": "Generator, right prompts",
    "generator_refined_15": "Refined, 15 steps",
    "generator_refined_30": "Refined, 30 steps",
    "generator_refined": "Generator, refined",
    "scratch_refined_15": "From scratch, 15 steps",
    "scratch_refined_30": "From scratch, 30 steps",
    "scratch_refined": "Refined from scratch",
    "labelled_5": "Own LoRA, 5 steps",
    "labelled_10": "Own LoRA, 10 steps",
    "labelled_20": "Own LoRA, 20 steps",
    "labelled_40": "Own LoRA, 40 steps",
    "oracle_lora": "Own LoRA, trained on labels",
}
REPORT_MODES = {
    "bare": ("Bare", "only the input is sent: \u201cThe film was a delight.\u201d"),
    "full": ("Full", "the instruction is sent too"),
}
REPORT_PLOT = "Baselines, controls and a ceiling"
REPORT_GAP = "Gap from base to own LoRA closed"
REPORT_CATEGORIES, REPORT_CATEGORIES_MORE = "By kind of task", "score"
REPORT_FAILURES, REPORT_FAILURES_MORE = "Where it goes wrong", "picked at random, not chosen"
REPORT_FAILURES_LEFT_OUT = "; {count} on data that is not ours left out"
REPORT_FAILURES_ELSEWHERE = "They stand in the folder that `dnd evaluate` wrote its report to."
REPORT_NO_FAILURES = "No wrong answer was recorded."
REPORT_ASKED, REPORT_WANTED, REPORT_GOT = "Asked for", "Wanted", "Got"
REPORT_ALL = "All numbers"
REPORT_COMMAND = "Made by"
REPORT_FACTS = {
    "operation_gain": "Operation gain: nats per token that the right prompts save over others",
    "cosine": "Cosine of weight changes",
}
REPORT_OTHER = (
    "This report is for another generator. Run `dnd evaluate --card` to examine the one in use."
)
REPORT_UNREADABLE = "A report of this generator cannot be read: {reason}"
REPORT_NONE = (
    "### No report yet\nThis generator came without a report card. Run `dnd evaluate` to examine "
    "it on unseen tasks; the result appears here."
)
REPORT_LOADING = "### Not loaded yet\nThe report card appears when the generator is loaded."


def count(number: int, thing: str) -> str:
    """Return "1 prompt", "2 prompts"."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def kilobytes(num_bytes: int) -> str:
    """Return a size as people say it."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.0f} kB"
