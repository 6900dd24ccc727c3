"""English: the source, and the type of every other language.

Words between tags are HTML as they stand; values put into a sentence are escaped by who draws it.
"""

import string
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dnd_engine.progress import duration

__all__ = ["English"]


class English:
    """The words of a page. Another language is a subclass that replaces every one of them."""

    __slots__ = ()  # nobody sets a word at run time

    CODE = "en"
    NAME = "English"
    SHORT = "EN"
    SWITCH = "Language"
    SWITCH_MORE = "The page is loaded anew; files and adapters of this visit go."

    # Things that are counted: one, and other. Both languages know no third form.
    THINGS: Mapping[str, tuple[str, str]] = {
        "bucket": ("bucket", "buckets"),
        "draw": ("prompt draw", "prompt draws"),
        "file": ("file", "files"),
        "item": ("item", "items"),
        "parameter": ("parameter", "parameters"),
        "prompt": ("prompt", "prompts"),
        "task": ("task", "tasks"),
        "unseen": ("unseen task", "unseen tasks"),
    }
    NUMBER_SIGNS = ",."
    """What groups thousands, and what begins the decimals."""

    TIMES = "\u00d7"

    TITLE = "Drag-and-Drop LLMs"
    TAGLINE = "Prompts in, LoRA adapter out."
    HERO = "Drop prompts. Get an adapter. See if it works."
    HERO_MORE = (
        "A generator reads your unlabeled prompts and writes a LoRA adapter for a small language "
        "model, with no training run. Then you compare base and adapted answers and see how far to "
        "trust the result."
    )
    SHOW = "Show me"
    SHOW_MORE = (
        "Makes an adapter from {prompts} about tables and asks both models, telling neither to "
        "write SQL: {question}"
    )
    FOOTER = (
        "Your files stay in this session and are deleted when it ends, but for what you keep in a "
        "library on your own computer."
    )
    TAB_WORKBENCH, TAB_LIBRARY, TAB_REPORT = "Workbench", "Library", "Report card"
    TAB_MEASURE = "Measure"

    # Loading the engine
    LOADING = "Loading the base model"
    DOWNLOADING = "Downloading the base model"
    LOAD_FAILED = "The base model did not load."
    LOAD_HINT = "You can drop and arrange prompt files meanwhile."
    RETRY = "Retry"
    DEVICE_READY, DEVICE_LOADING, DEVICE_FAILED = "Ready", "Loading", "Failed"
    CHIP_BASE, CHIP_GENERATOR = "Base", "Generator"
    NOT_LOADED = "The engine is not loaded."

    # The canvas; `canvas.html` and `canvas.js` get these by name
    CANVAS: Mapping[str, str] = {
        "canvas": "Prompt canvas",
        "title": "Prompts",
        "mix": "Weights of the mix",
        "edit": "Edit prompts",
        "help": (
            "Best an instruction, a blank line and an input; between prompts a line ---, or a row "
            "each in csv and jsonl. Labels are not needed and not used."
        ),
        "browse": "Browse files",
        "paste": "Paste prompts",
        "add_bucket": "Add bucket",
        "clear": "Clear",
        "picker": "Prompt files",
        "paste_help": "One prompt per line, or separate prompts with a line ---",
        "paste_into": "Bucket",
        "paste_add": "Add prompts",
        "paste_cancel": "Cancel",
        "paste_empty": "Write or paste a prompt first.",
        "pasted": "pasted-{number}.txt",
        "buckets": "Buckets",
        "no_bucket": "No bucket left. Add one to drop prompt files on.",
        "undo": "Undo",
        "keys": (
            "Drag a card, or focus it and press <kbd>←</kbd> <kbd>→</kbd>, or choose a bucket on "
            "the card. <kbd>Del</kbd> removes it; Undo brings it back."
        ),
        "batch": "Prompt batch",
        "or": "or",
        "moved": "{name} moved to {bucket}.",
        "card_removed": "{name} removed from {bucket}.",
        "bucket_removed": "{bucket} removed.",
        "filled_bucket_removed": "{bucket} and its {files} removed.",
        "all_removed": "All files removed.",
        "undo_hint": "Undo brings it back.",
        "brought_back": "Brought back.",
        "new_bucket": "New bucket",
        "bucket_added": "{bucket} added.",
        "name_taken": "There is a bucket named {name} already.",
        "name_missing": "A bucket needs a name.",
        "renamed": "Bucket renamed to {name}.",
        "call_it": "Call it “{name}”",
        "mute": "Mute",
        "mute_one": "Mute {bucket}",
        "muted": "{bucket} muted.",
        "unmuted": "{bucket} heard again.",
        "no_suffix": "A name without a suffix",
        "wrong_kind": "{kind} is not a prompt file. Use {kinds}.",
        "too_large": (
            "{size}; the limit is {limit} MB a file. Keep a sample: a few hundred prompts are "
            "plenty."
        ),
        "too_many": "The canvas holds {number} files already. Remove some first.",
        "folder": "This is a folder. Drop the files in it instead.",
        "broke_off": "The upload broke off. Check the connection and drop it again.",
        "added": "{files} added to {bucket}.",
        "the_canvas": "the canvas",
        "refused_one": "The file was not added.",
        "refused_one_of": "{number} of {files} was not added.",
        "refused": "{number} of {files} were not added.",
        "kept_none": "Everything you had is still there.",
        "kept_one": "The other one is on the canvas, and everything you had is still there.",
        "kept": "The other {number} are on the canvas, and everything you had is still there.",
        "close_errors": "Close the error list",
        "loaded": "Example files loaded.",
        "weight": "Weight",
        "drop_here": "Drop files here",
        "bucket_name": "Bucket name, {bucket}",
        "remove_bucket": "Remove bucket {bucket}",
        "files_in": "Files in {bucket}",
        "some_of": "{number} of {files}",
        "empty": "empty",
        "weight_of": "Weight of {bucket}",
        "weight_number": "Weight of {bucket}, as a number",
        "weight_mix": "Weight of {bucket} in the mix",
        "less": "Less of this. Works with Sum adapters only.",
        "kept_unused": "Kept, not used.",
        "no_part": "Takes part once it holds prompts.",
        "share": "{share} % of the batch",
        "remove_card": "Remove {name}",
        "mend": "Not used. Mend the file and drop it again, or remove it.",
        "preview": "“{words}”",
        "uploading": "uploading",
        "reading": "reading",
        "not_used": "{prompts}, not used",
        "split_lines": "Split by line",
        "split_lines_of": "Split {name} by line",
        "reading_again": "Reading {name} again.",
        "split_auto": "Split: auto",
        "split_by_lines": "Split: lines",
        "split_by_paragraphs": "Split: paragraphs",
        "split_by_separator": "Split: ---",
        "split_of": "How to split {name} into prompts",
        "bucket_of": "Bucket of {name}",
        "num_uploading": "{number} uploading",
        "num_reading": "{number} reading",
        "num_faulty": "; {files} not used",
        "side_none": "No bucket on that side.",
    }
    CANVAS_FULL = "This canvas holds more than it can. Reload the page."
    UNNAMED = "Unnamed"
    SPLIT_QUESTION = "Read as one long prompt. Split by line instead?"
    VISIT_FULL = (
        "This visit has read {number} files, which is the most. Reload the page to begin anew."
    )
    UPLOAD_GONE = "The upload is gone. Drop the file again."

    # Examples
    EXAMPLES = "No files at hand?"
    EXAMPLES_MORE = "Each example puts its files in a bucket. We wrote them for this page."
    EXAMPLE_LOAD = "Load"
    EXAMPLE_LOAD_ONE = "Load: {title}"
    EXAMPLE_LOAD_ALL = "Load all three"
    EXAMPLE_WORDS: Mapping[str, tuple[str, str]] = {
        "sql": ("Questions to SQL", "Questions about a table, asked in plain English."),
        "legal": (
            "Contract clauses",
            "Short clauses, each with a yes-or-no or a naming question.",
        ),
        "tone": ("A kinder tone", "Blunt replies and sour reviews, to be made friendly."),
    }
    BUCKETS: Mapping[str, str] = {"SQL": "SQL", "Legal": "Legal", "Tone of voice": "Tone of voice"}
    """Buckets of the examples, by the name they have in the engine."""

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
    USED = "{files}, {prompts}"
    USED_NOT = "{used}; {files} not used"

    # Stages
    STAGES: Mapping[str, tuple[str, str]] = {
        "wait": ("Queue", "Waiting for the engine"),
        "download": ("Download", "Base model and text encoder, once"),
        "load": ("Load", "Base model, encoder, generator"),
        "read": ("Read prompts", ""),
        "encode": ("Encode", "Prompts through the text encoder"),
        "decode": ("Decode", "Weight tokens to a LoRA"),
        "ask": ("Ask", "The base answers your full prompts"),
        "refine": ("Refine", "Training on your prompts"),
        "check": ("Check", "Reload with stock PEFT, compare"),
        "base": ("Base", "The frozen model answers"),
        "adapter": ("This adapter", "Answers with the adapter"),
        "shared_lora": ("Shared part", "Answers with what all adapters share"),
        "few_shot": ("Few-shot", "The base answers after labelled rows"),
        "train": ("Train", "AdamW on the labelled rows"),
    }
    STAGE_STATES: Mapping[str, str] = {
        "waiting": "waiting",
        "running": "running",
        "done": "done",
        "failed": "failed",
        "stopped": "stopped",
    }
    RUNS: Mapping[str, Mapping[str, str]] = {
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
        "remake": {
            "running": "Making the adapter of the recipe",
            "done": "How it was made again",
            "stopped": "Stopped. The adapter is as it was before.",
            "failed": "Not made again.",
        },
        "refinement": {
            "running": "Refining the adapter",
            "done": "How it was refined",
            "stopped": "Stopped. The adapter is as it was before.",
            "failed": "Not refined; the adapter is as it was.",
        },
        "measurement": {
            "running": "Measuring the adapter",
            "done": "How it was measured",
            "stopped": "Stopped. What was found until then stands below.",
            "failed": "Not measured to the end.",
        },
        "training": {
            "running": "Training a LoRA",
            "done": "How it was trained",
            "stopped": "Stopped. The LoRA as it was last scored, and its curve, stand below.",
            "failed": "Not trained to the end.",
        },
    }
    STOPPED_UNSCORED = "Stopped before anything was scored, so there is no new result."
    BROKE = "Something broke that should not have. The log of the app has the details; try again."
    PREPARING = "Preparing the zip"

    # Adapter bar
    SHELF = "Adapters of this visit"
    MADE_FROM = "{prompts} from {files}"
    PROMPTS_UNKNOWN = "prompts unknown"
    MADE_IN = "weights in {seconds:.2f} s"
    REFINED_IN = "then refined in {seconds:.0f} s"
    REFINED_ON_LABELS_IN = "then refined on labels in {seconds:.0f} s"
    TRAINED_IN = "trained on labels in {seconds:.0f} s"
    RANK = "rank {rank}"
    CUT_BACK = "The sum was cut back to rank {rank} and keeps {share:.0f} % of the change."
    HASH = "SHA-256 {sha256}"
    FINGERPRINT = "Fingerprint of the weight change"
    STRENGTH = "Strength"
    STRENGTH_INFO = "0 is base. Acts on the next word."
    STRENGTH_STRONG = "Strong: answers may turn to garble."
    DOWNLOAD = "Download PEFT zip"
    DOWNLOAD_ANYWAY = "Download anyway"
    DOWNLOAD_FAILED = "No zip"
    STALE = "Made from earlier prompts."

    # Keep and export
    TAKE = "Keep or export"
    TAKE_CLOSE = "Close"
    ADAPTER_NAME = "Name"
    KEEP_IT = "Keep"
    KEEP_IT_HERE = "Adapters are kept in the library on this computer, until they are deleted."
    KEEP_IT_VISIT = (
        "Adapters are kept for this visit alone and go when it ends. Download what is to last."
    )
    KEEP_TEXTS = "Keep the prompt texts too"
    KEEP_TEXTS_INFO = "Off, only names, counts and hashes of the files are kept."
    KEEP_NOW = "Keep this adapter"
    KEPT = "Kept in the library as <b>{name}</b>."
    KEPT_ALREADY = "In the library already, as <b>{name}</b>."
    KEEP_FAILED = "Not kept."
    EXPORT = "Export"
    EXPORT_MORE = "For other tools, at the strength that is set now."
    EXPORT_SHARED = (
        "For other tools, at the strength that is set now. A merged model is as large as its base, "
        "so it is made only where the app runs on your own computer."
    )
    EXPORT_FORMAT = "Format"
    EXPORT_FORMATS: Mapping[str, str] = {
        "gguf": "GGUF for llama.cpp",
        "merged": "Merged model",
        "hub": "Hugging Face Hub",
    }
    EXPORT_DO: Mapping[str, str] = {
        "gguf": "Make the GGUF file",
        "merged": "Make the merged model",
        "hub": "Push to the Hub",
    }
    EXPORT_DOING: Mapping[str, str] = {
        "gguf": "Writing the GGUF file",
        "merged": "Merging, then comparing with the adapter",
        "hub": "Reloading with stock PEFT, then uploading",
    }
    EXPORT_FAILED: Mapping[str, str] = {
        "gguf": "No GGUF file was made.",
        "merged": "No merged model was made.",
        "hub": "Not pushed.",
    }
    EXPORTED = "<b>{name}</b>, {size}, is ready."
    EXPORT_DOWNLOAD = "Download the file"
    EXPORT_USAGE = "How to use it"
    GGUF_BASE = (
        "base.gguf stands for the base model as a GGUF file: download one of it, or make one with "
        "convert_hf_to_gguf.py of llama.cpp."
    )
    ZIP_FAILED = "The zip could not be written: {reason}. Free some space, and try again."
    HUB_REPO = "Repository"
    HUB_REPO_LIKE = "user/name"
    HUB_PRIVATE = "Private"
    HUB_PRIVATE_INFO = (
        "Names of buckets and files, counts and hashes go with it; prompt texts do not."
    )
    HUB_TOKEN = "Token"
    HUB_TOKEN_OWN = (
        "With write access. Used once and not kept. Left empty, the login of this computer is used."
    )
    HUB_TOKEN_VISITOR = "Your own, with write access. Used once and not kept."
    HUB_TOKEN_NEEDED = "A token of your own is needed here, with write access."
    PUSHED_PRIVATE = "Pushed, private: {url}"
    PUSHED_PUBLIC = "Pushed, public: {url}"

    # Library
    LIBRARY_LIST = "Adapters kept"
    LIBRARY_EMPTY = (
        "Nothing is kept yet. Make an adapter on the Workbench and press Keep or export."
    )
    LIBRARY_LOAD = "Load into the workbench"
    LIBRARY_LOADING = "Reading and verifying the adapter"
    LIBRARY_LOAD_FAILED = "Not loaded."
    LIBRARY_FAILED = "The library is as it was."
    LIBRARY_FULL = "A visit keeps {number} adapters here, deleted ones among them."
    RENAME = "Rename"
    DUPLICATE = "Duplicate"
    DELETE = "Delete"
    UNDO_DELETE = "Undo: bring back {name}"
    RECIPE = "Recipe, JSON"
    IMPORT = "Import"
    IMPORT_MORE = (
        "Import takes a PEFT zip, or a recipe, whose prompt files must lie on the canvas unless it "
        "holds their texts."
    )
    IMPORT_FAILED = "<b>{name}</b> was not imported."
    REMADE = "The weights are those of the recipe, to the last bit"
    REMADE_OTHERWISE = "Made anew; this machine rounds otherwise than the first one"
    DAMAGED = "Damaged: {key}"
    DAY = "{year:d}-{month:02d}-{day:02d}, {hour:02d}:{minute:02d}"
    STRENGTH_OF = "strength {strength:.2f}"
    IMPORTED_HERE = "imported"
    UNCHECKED = "Not measured"
    VOTE_OUTCOMES: Mapping[str, str] = {
        "won": "won",
        "lost": "lost",
        "tie": "tied",
        "bad": "both bad",
    }

    # Refine
    REFINE = "Refine"
    REFINE_MORE = (
        "Trains this adapter for a minute or two on your own prompts, without labels: the base "
        "model reads each full prompt and teaches the adapter to answer without the instruction. "
        "Where the base is wrong even when it is told, so is what it teaches."
    )
    REFINE_NEEDS = "It needs a blank line between instruction and input, in 8 prompts or more."
    REFINE_START = "Start refining"
    REFINE_LATER = "Not now"
    REFINE_LABELS = "Learn from the labels"
    REFINE_LABELS_INFO = "Your files have some. Off, the base's own answers are learnt."
    UNDO = "Undo refine"

    # Compare
    COMPARE = "Compare"
    COMPARE_MORE = "Both answers come from one batch, with the same seed."
    COMPARE_BASE_ONLY = (
        "You can chat with the base model now. The adapted answer appears beside it after "
        "Synthesize."
    )
    BASE, ADAPTED = "Base", "Adapted"
    BASE_LABEL = "base"
    ASK = "Ask both models"
    SEND, CLEAR = "Send", "Clear"
    BESIDE = "Compare with"
    OTHER = "Other adapter"
    ANSWERS = "{side}, answers"
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
    ASK_MODES: Mapping[str, str] = {
        "written": "As written",
        "bare": "Without the instruction",
        "told": "Instruction to the left only",
    }
    BLIND = "Blind"
    BLIND_SIDES = ("A", "B")
    VOTES: Mapping[str, str] = {
        "a": "A is better",
        "b": "B is better",
        "tie": "Tie",
        "bad": "Both bad",
    }
    VOTED_BETTER = "better"
    VOTES_TITLE = "Votes"
    VOTES_MORE = (
        "The two change places at random, and who is who is told after each vote. The strength "
        "stays as it is meanwhile."
    )
    VOTE_TOLD: Mapping[str, str] = {
        "right": "won",
        "left": "lost",
        "tie": "tied",
        "bad": "both bad",
    }
    VOTES_NONE = "No vote for either yet."
    VOTES_FEW = "Too few votes to tell."
    WIN_RATE = (
        "Won {share:.0f} % of the votes that chose one (95 % interval {low:.0f} to {high:.0f})."
    )
    VERSUS = "against"
    KEEP = "Keep the conversation:"
    KEEPS: Mapping[str, str] = {"markdown": "Markdown", "json": "JSON", "votes": "Votes, JSONL"}
    TRANSCRIPT_QUESTION = "Question"
    TRANSCRIPT_VOTE = "Better, judged blind"
    EMPTY_BASE = "The base model's answers appear here."
    EMPTY_ADAPTED = "No adapter yet. Its answers will appear here, beside the base model's."
    EMPTY_ADAPTED_READY = (
        "Ask without the instruction, as in your files: the adapter should carry it."
    )
    ASKED_BEFORE = "Asked before there was an adapter."
    NOW_ASKED = "From here on: {name}"
    NOW_OTHERS = "From here on: other models"
    SAME = "same as base, token for token"
    STOPPED_TURN = "stopped"
    TOKENS = "{number} tok"
    TOKENS_PER_SECOND = "{number:.0f} tok/s"
    FIRST_TOKEN = "first token {seconds:.2f} s"
    SEED_USED = "seed {seed}"
    CUT_AT = "cut at {number} tokens"
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
    CHECKS_ON = "on {prompts} of yours"
    CHECKS_NONE = (
        "No adapter yet. Here you will see whether it changes the model, whether it carries your "
        "instruction, and where the weights changed."
    )
    CHECKS_RUNNING = "Measuring on your prompts. You can chat meanwhile."
    CHECKS_NO_PROMPTS = (
        "It came without its prompts, and nothing was measured before. Chat to see what it does."
    )
    CHECKS_FAILED = "Could not be measured."
    VERDICT_EFFECT, VERDICT_SHARE = "{effect:.2g} nats", "{same} of {number}"
    VERDICT_COSINE = "cosine {similarity:.2f}"
    VERDICTS: Mapping[str, tuple[str, str]] = {
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
            "Without the instruction it answers your prompts otherwise than the model does with "
            "it.",
        ),
        "unlike": (
            "Unlike anything seen in training",
            "No task that the generator was examined on lay this far from it.",
        ),
        "refined": (
            "Refined on your prompts",
            "It was taught to answer them without the instruction. Try others.",
        ),
        "refined_alike": (
            "Learnt one answer for all",
            "It was taught to answer nearly all of your prompts alike. Its effect says nothing of "
            "whether that is right.",
        ),
        "trained": ("Trained on your rows", "It learnt their labels. Try others."),
        "untold": (
            "No instruction to leave out",
            "It takes a prompt with a blank line between instruction and input, of at most 256 "
            "tokens, to tell whether the adapter carries the instruction.",
        ),
    }
    OUTLOOK = (
        "On {n_tasks} with about as much agreement, adapters changed the score by {gain:+.2f} "
        "({low:+.2f} to {high:+.2f}) without the instruction."
    )
    OUTLOOK_RANKS = "Rank correlation of agreement and gain: {correlation:+.2f}."
    WARNINGS: Mapping[str, tuple[str, str]] = {
        "nothing": ("This adapter is unlikely to help.", "It leaves the model as it was."),
        "carries_none": (
            "This adapter is unlikely to help.",
            "It does not carry your instruction.",
        ),
        "unlike": (
            "Your prompts are unlike anything the generator has seen.",
            "None of the tasks it was examined on is as far from its training, so what was found "
            "there may not hold here.",
        ),
        "strongest": (
            "This adapter may garble answers.",
            "It changes the model unusually much; try a lower strength.",
        ),
        "refined_alike": (
            "This adapter learnt one and the same answer for nearly all of your prompts.",
            "Where that is right, so is the adapter. If it is not, the model that taught it does "
            "not know the task: take the adapter before, and refine on labels or on prompts that "
            "tell more.",
        ),
    }
    WARNING_TRY = (
        "You can refine it below, or add prompts (16 or more work best). Your files are fine."
    )
    WARNING_TRY_REFINED = (
        "You can undo, or add prompts (16 or more work best). Your files are fine."
    )
    WARNING_TRY_STRENGTH = "More strength may help too."
    EFFECT = "Effect on the model"
    EFFECT_MORE = "KL from base to adapted, nats on the next token of your own prompts."
    EFFECT_TOLD = "Effect {effect:.3g} nats"
    EFFECT_NONE, EFFECT_STRONG = "no effect", "strong"
    NEAREST = "Nearest training tasks, cosine"
    NEAREST_EXAMINED = (
        "The {n_tasks} that the generator was examined on lay at {lowest:.2f} to {highest:.2f}."
    )
    NEAREST_RANKS = (
        "Rank correlation of that and the gain: {correlation:+.2f} ({low:+.2f} to {high:+.2f})."
    )
    NORMS = "Relative weight change"
    NORMS_MORE = "‖ΔW‖ / ‖W‖ by layer and matrix. It shows where and how much, not how well."
    NORMS_TOLD = "Relative weight change: from {low:.2g} to {high:.2g} per cent"
    NORMS_LAYER = "layer"
    NORMS_ALL = "All numbers, in per cent"

    PROOF = "Does it read your prompts?"
    PROOF_MORE = (
        "Makes adapters from other prompts, and from yours with the words shuffled, and puts them "
        "beside this one on up to 16 of your prompts. Takes a few seconds."
    )
    PROOF_RUN, PROOF_AGAIN = "Find out", "Measure again"
    PROOF_STEPS: Mapping[str, str] = {"decode": "Making the others", "check": "Measuring"}
    PROOF_MEASURE = (
        "Nats per token that this adapter saves on the answers the model gives when it is told the "
        "instruction, with 95 % intervals. Right of 0 this adapter is better. Measured on "
        "{prompts} that it was made from."
    )
    PROOF_INTERVAL = "({low:+.2f} to {high:+.2f})"
    PROOF_CONTROLS: Mapping[str, str] = {
        "wrong": "Made from other prompts ({names})",
        "mean": "What all adapters share",
        "shuffled": "Made from shuffled words",
        "base": "No adapter",
    }
    PROOF_YES = "Yes. Other prompts, and what all adapters share, do clearly worse."
    PROOF_NO: Mapping[str, str] = {
        "wrong": "No evidence of it: one made from other prompts does about as well.",
        "mean": "No evidence of it: what all adapters of this generator share does about as well.",
    }
    PROOF_WORDS_ONLY = "The order of the words hardly matters: shuffled, they do about as well."
    PROOF_NONE = "It takes two prompts with a blank line between instruction and input to find out."

    # Measure
    MEASURE = "What is it worth on your own rows?"
    MEASURE_MORE = (
        "Some rows are answered by the base, by a few-shot prompt, by what all adapters share and "
        "by the adapter on the Workbench, and scored. The others can be learnt by a LoRA, as usual."
    )
    MEASURE_EMPTY = (
        "No adapter yet. Make one on the Workbench, or load one from the Library. Then drop rows "
        "with labels here, and see what it is worth beside the base and beside a LoRA trained on "
        "them."
    )
    MEASURE_OF = "Adapter in the bar"
    MEASURE_FILE = "Rows with labels"
    MEASURE_FILE_INFO = (
        "A csv, tsv, jsonl, json or parquet file: prompts, and beside each its label, in a column "
        "named label, answer or response."
    )
    MEASURE_ROWS = "<b>{name}</b>: {prompts}, {labelled} with a label."
    MEASURE_REFUSED = "<b>{name}</b> cannot be measured on."
    MEASURE_LIMIT = "Rows to score, at most"
    MEASURE_LIMIT_INFO = "Never more than half of all: the others are left to learn from."
    MEASURE_SEEN = "Score prompts it was made from too"
    MEASURE_SEEN_INFO = "It has not read their labels, but may do better on them than on new ones."
    MEASURE_START = "Measure"
    MEASURE_LEFT = "about {duration} left"
    MEASURE_ANSWERS = "{done} of {total} answers"
    MEASURE_STEP = "step {done} of {total}, loss {loss:.3f}"
    MEASURE_SCORING = "scoring after {steps} steps"
    MEASURE_TITLE = "{adapter} on {file}"
    MEASURE_FACTS = "{scored} of {rows} rows scored, {left} left to learn from"
    MEASURE_OTHER = (
        "This is of {measured}; in the bar now is {now}. Measure again to see what that is worth."
    )
    MEASURE_MODES: Mapping[str, str] = {"bare": "Bare inputs", "full": "Full prompts"}
    MEASURE_LABELS: Mapping[str, str] = {
        "base": "Base",
        "few_shot": "Base, few-shot prompt",
        "shared_lora": "What all adapters share",
        "adapter": "This adapter",
        "trained_lora": "LoRA trained from scratch",
        "warm_lora": "LoRA trained from this adapter",
    }
    MEASURE_STEPS = "{label}, {steps} steps"
    MEASURE_METRICS: Mapping[str, str] = {
        "choice": "share of answers that begin with the right label",
        "exact": "share of answers that are the label",
        "rouge": "ROUGE-L of answer and label",
    }
    MEASURE_SCORE = "{mode}: this adapter scores <b>{score}</b> ({low} to {high})."
    MEASURE_VERDICTS: Mapping[str, str] = {
        "gain": "A clear gain over: {rows}.",
        "loss": "Clearly worse than: {rows}.",
        "no clear difference": "No clear difference from: {rows}.",
        "too few items": "Too few rows to place it beside: {rows}.",
    }
    MEASURE_LEAD = "{label} ({lead}, {low} to {high})"
    MEASURE_COMMONEST = "Answering always “{label}” would score {score}."
    MEASURE_ALWAYS = "It answers every row alike: “{answer}”."
    MEASURE_PASSED = (
        "Training from scratch scored as much after {seconds:.1f} s of training, in {steps} steps."
    )
    MEASURE_NOT_PASSED = (
        "Training from scratch did not score as much in {seconds:.1f} s, in {steps} steps."
    )
    MEASURE_TOOK: Mapping[str, str] = {
        "plain": "Making the adapter took {seconds:.2f} s, without labels.",
        "labels": "Making the adapter took {seconds:.2f} s, what it learnt from labels included.",
        "estimated": "Making an adapter from as many prompts takes about {seconds:.2f} s here, "
        "without labels.",
    }
    MEASURE_HEAD: Mapping[str, str] = {
        "row": "Who answers",
        "score": "Score",
        "interval": "95 % interval",
        "choice": "Option accuracy",
        "nll": "Nats a token (less is better)",
        "lead": "Lead of this adapter",
        "items": "Rows answered",
        "train": "Trained for",
    }
    MEASURE_INTERVAL = "{low} to {high}"
    MEASURE_LEAD_OF = "{lead} ({low} to {high})"
    MEASURE_SO_FAR = "{done} of {total}"
    MEASURE_CURVE = "Score over the time it takes to get there"
    MEASURE_AXIS = "seconds to make it, scoring left out, log scale"
    MEASURE_LINES: Mapping[str, str] = {
        "base": "Base",
        "adapter": "Adapter",
        "trained_lora": "From scratch",
        "warm_lora": "From adapter",
    }
    MEASURE_POINT = "{score} after {seconds:.1f} s"
    MEASURE_NOTES = "How it was measured, in detail"
    TRAIN = "Train a real LoRA on the other rows"
    TRAIN_MORE = (
        "With the labels that the adapter does without. It is scored after 5, 10, 20, 40 steps "
        "and so on, so you see how long training takes to get as far."
    )
    TRAIN_OF = "On the other rows of {file}, beside {adapter}."
    TRAIN_FIRST = "Measure the adapter in the bar on these rows first."
    TRAIN_STEPS = "Steps"
    TRAIN_STEPS_INFO = "Each learns from eight rows."
    TRAIN_WARM = "Start from this adapter"
    TRAIN_WARM_INFO = "Off, it starts from scratch."
    TRAIN_START = "Train"
    TRAINED_HERE = "Trained here:"
    TRAIN_TAKE: Mapping[str, str] = {
        "trained_lora": "Put the LoRA from scratch in the bar",
        "warm_lora": "Put the LoRA from this adapter in the bar",
    }
    TRAIN_TAKING = "Reloading the LoRA with stock PEFT"
    TRAIN_NOT_TAKEN = "Not put in the bar."
    TRAIN_SHELVED = "Trained before, and still among the adapters of this visit: {names}."
    MEASURE_KEEP = "Keep the result:"
    MEASURE_KEEPS: Mapping[str, str] = {
        "items": "Answers, CSV",
        "json": "JSON",
        "markdown": "Markdown",
    }
    SCORED = "{file}: {scores}"
    SCORED_AT = "{file}, at strength {strength:.2f}"
    SCORED_MODE = "{mode} {score}"
    SCORED_BESIDE = "{mode} {score} (base {base})"

    # Report card
    REPORT_TITLES: Mapping[str, str] = {
        "heldout": "How good is this generator on unseen tasks?",
        "refine": "How good is it once refined on the prompts of unseen tasks?",
        "train": "How good is it on tasks it was trained on?",
    }
    REPORT_SPLITS: Mapping[str, str] = {
        "heldout": "Unseen tasks",
        "refine": "Unseen tasks, refined",
        "train": "Seen in training",
    }
    REPORT_HOLDOUTS: Mapping[str, str] = {
        "family": "New family",
        "primitive": "New operation",
        "composition": "New composition",
        "pair": "New pair of known task and format",
        "format": "Unseen format",
    }
    REPORT_PART = "{split}: {part}"
    REPORT_METRICS: Mapping[str, str] = {
        "score": "Score",
        "format_share": "Right format",
        "nll": "Loss",
    }
    REPORT_METRIC_NOTES: Mapping[str, str] = {
        "score": (
            "The task's own metric, 0 to 1. Marks are means, bars 95 % intervals over families."
        ),
        "format_share": "Share of answers in the format asked for, of tasks that have one.",
        "nll": "Nats per token of the reference answer. Lower is better.",
    }
    REPORT_ABOUT = "It is about the generator; the Workbench checks your own prompts."
    REPORT_GROUP, REPORT_METRIC = "Tasks", "Measure"
    REPORT_ROWS: Mapping[str, str] = {
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
    REPORT_MODES: Mapping[str, tuple[str, str]] = {
        "bare": ("Bare", "only the input is sent: “The film was a delight.”"),
        "full": ("Full", "the instruction is sent too"),
    }
    REPORT_INTERVAL = "{label}: {value}, 95 % interval {low} to {high}"
    REPORT_PLOT = "Baselines, controls and a ceiling"
    REPORT_SECONDS = "What more seconds bring"
    REPORT_SECONDS_MORE = (
        "Score on bare inputs over seconds of training, on one core. Refine has the adapter's own "
        "prompts and no labels; its first seconds are spent on asking the teacher, the base told "
        "the instruction. From nothing, it starts at an empty LoRA."
    )
    REPORT_SECONDS_EQUAL = (
        "A LoRA on the labels of the same prompts scores as much as the adapter after {steps:d} "
        "steps, which take {times:.0f} times as long as making it."
    )
    REPORT_SECONDS_WAYS: Mapping[str, str] = {
        "generator": "Refined",
        "scratch": "From nothing",
        "labels": "On labels",
        "teacher": "Teacher",
    }
    REPORT_GAP = "Gap from base to own LoRA closed"
    REPORT_CATEGORIES, REPORT_CATEGORIES_MORE = "By kind of task", "score"
    REPORT_CATEGORIES_OF = "{value}, LoRA {ceiling}"
    REPORT_CATEGORIES_DIAMOND = "diamond: own LoRA"
    REPORT_FAILURES, REPORT_FAILURES_MORE = "Where it goes wrong", "picked at random, not chosen"
    REPORT_FAILURES_LEFT_OUT = "; {number} on data that is not ours left out"
    REPORT_FAILURES_ELSEWHERE = "They stand in the folder that `dnd evaluate` wrote its report to."
    REPORT_NO_FAILURES = "No wrong answer was recorded."
    REPORT_ASKED, REPORT_WANTED, REPORT_GOT = "Asked for", "Wanted", "Got"
    REPORT_ALL = "All numbers"
    REPORT_COMMAND = "Made by"
    REPORT_GAIN = "Operation gain: nats per token that the right prompts save over others"
    REPORT_GAIN_INTERVAL = "({low:+.2f} to {high:+.2f})"
    REPORT_COSINE = (
        "Cosine of weight changes: same task <b>{same:.3f}</b>, different tasks "
        "<b>{different:.3f}</b>"
    )
    REPORT_OTHER = (
        "This report is for another generator. Run `dnd evaluate --card` to examine the one in use."
    )
    REPORT_UNREADABLE = "A report of this generator cannot be read: {reason}"
    REPORT_NONE = (
        "### No report yet\nThis generator came without a report card. Run `dnd evaluate` to "
        "examine it on unseen tasks; the result appears here."
    )
    REPORT_LOADING = "### Not loaded yet\nThe report card appears when the generator is loaded."

    # Training, watched
    TAB_TRAINING = "Training"
    WATCH_RUN = "Run"
    WATCH_KINDS: Mapping[str, str] = {
        "generator": "Training of a generator",
        "multi_task_lora": "Training of a multi-task LoRA",
        "collection": "Collection of LoRA checkpoints",
        "unknown": "Training",
    }
    WATCH_NO_RECIPE = "there is no recipe.json in its folder, so its settings are not known"
    WATCH_STATES: Mapping[str, tuple[str, str]] = {
        "starting": (
            "Starting",
            "It has not written a step yet; loading the models and reading the prompts may take "
            "minutes. Last change {ago} ago.",
        ),
        "running": ("Running", "Last change {ago} ago."),
        "still": (
            "Not moving",
            "Nothing has changed for {ago}. Either it was stopped, and --resume continues it, or "
            "this step takes unusually long.",
        ),
        "finished": ("Finished", "Last change {day}."),
    }
    WATCH_EARLY = "It stopped early: validations brought nothing better."
    WATCH_DONE = ("Steps", "LoRAs")
    WATCH_FACTS: Mapping[str, str] = {
        "left": "Time left",
        "pace": "A step, validations included",
        "tokens": "Tokens a second",
    }
    WATCH_OF = "{done} of {total}"
    WATCH_ABOUT = "about {duration}"
    WATCH_COLLAPSED_TITLE = "Collapsed."
    WATCH_COLLAPSED = (
        "At step {step} adapters of different tasks are alike, so the prompts make no difference. "
        "Stop the run. Look first at the condition, that is, what the encoder makes of the "
        "prompts, then at the learning rates."
    )
    WATCH_PLOTS: Mapping[str, tuple[str, str]] = {
        "loss": ("Training loss", "nats per answer token; single steps in grey"),
        "seen": ("Validation, tasks in training", "nats per answer token"),
        "families": ("Validation, unseen families", "nats per answer token"),
        "exact": ("Answers exactly right", "share of held-back answers"),
        "share": ("Between-task share", "of the size of adapters, log scale"),
        "loras": ("In training now", "loss of each step, nats per answer token"),
    }
    WATCH_LINES: Mapping[str, str] = {
        "smooth": "smoothed",
        "right": "right prompts",
        "wrong": "wrong prompts",
        "seen": "in training",
        "families": "unseen families",
        "limit": "collapsed below",
    }
    WATCH_MARKS = "Thin lines without marks: a few tasks that are looked at between validations."
    WATCH_TOLD = "{label}: {first} at step {begin}, {last} at step {end}"
    WATCH_LATER = "The first validation comes at step {step}."
    WATCH_LATER_UNKNOWN = "No validation yet."
    WATCH_NOW = "Where it stands"
    WATCH_COLUMNS = ("What, and how it looks in a healthy run", "Now", "Step")
    WATCH_NUMBERS: Mapping[str, tuple[str, str]] = {
        "smooth_loss": (
            "Training loss, smoothed",
            "Falls fast at first, then slowly. It falls as smoothly where prompts make no "
            "difference, so read on.",
        ),
        "validation_loss": (
            "Validation loss, right prompts",
            "Held-back examples of the tasks in training. Falls with the training loss; if it "
            "rises, the run learns by heart.",
        ),
        "validation_loss_wrong_prompts": (
            "Validation loss, wrong prompts",
            "The same examples with adapters made from the prompts of another family. Stays well "
            "above the line before.",
        ),
        "validation_wrong_prompt_gap": (
            "Saved by the right prompts",
            "Nats per token. Above 0 and growing; near 0 the prompts make no difference.",
        ),
        "probe_wrong_prompt_gap": (
            "Saved by the right prompts, a few tasks",
            "The same on a few tasks that are looked at more often, so there it shows first.",
        ),
        "validation_exact": (
            "Answers exactly right",
            "Share that is right in every token. Rises late, from 0.",
        ),
        "between_task_share": (
            "Between-task share",
            "How much of the adapters differs from task to task. Above {least} after the warm-up, "
            "and above {late} at the end of a long run; below {least} the run has collapsed.",
        ),
        "delta_norm": (
            "Size of the weight change, ‖ΔW‖",
            "Grows, then levels off. If it shoots up, the learning rates are too high.",
        ),
        "families_loss": (
            "Unseen families, right prompts",
            "Tasks of families that training never sees. Falls later and less.",
        ),
        "families_wrong_prompt_gap": (
            "Unseen families, saved by the right prompts",
            "Above 0: it has learned to read prompts, and not its tasks alone.",
        ),
        "families_exact": (
            "Unseen families, exactly right",
            "Near 0 for long; the hardest number here.",
        ),
    }
    WATCH_ALL = "All numbers"
    WATCH_NOTHING = "Nothing was measured yet."
    WATCH_LORAS = ("Loss before and after", "nats per answer token, held-back examples")
    WATCH_LORAS_HEALTHY = (
        "Ring: the base. Disc: with the LoRA of the task, after its last step. A disc that stays "
        "at its ring has learned nothing: too few steps, or labels that cannot be learned."
    )
    WATCH_FELL = "{after:.2f}, was {before:.2f}"
    WATCH_MORE = "{number} more under All numbers."
    WATCH_LEFT_OUT = "Left out"
    WATCH_UNREADABLE = "The run cannot be read."

    # Keyboard
    KEYS_OPEN = "Keyboard shortcuts"
    KEYS_CLOSE = "Close"
    KEYS_ON = "Single keys are on"
    KEYS_ON_MORE = "They wait while you type. Esc works always."
    KEYS_TITLE = "Key: {key}"
    KEYS_GROUPS: Mapping[str, str] = {
        "make": "Make an adapter",
        "card": "On a card of the canvas",
        "ask": "Ask and compare",
        "page": "Anywhere",
    }
    KEYS_DO: Mapping[str, str] = {
        "help": "Show this list",
        "stop": "Stop what is running, or leave the question box",
        "canvas": "Go to the prompts",
        "synthesize": "Synthesize",
        "take": "Open or close Keep or export",
        "refine": "Open or close Refine",
        "question": "Go to the question",
        "send": "Send the question, in its box",
        "newline": "New line in the question",
        "again": "Ask again",
        "edit": "Edit the last question",
        "differences": "Mark differences",
        "blind": "Blind on or off",
        "vote_a": "A is better",
        "vote_b": "B is better",
        "vote_tie": "Tie",
        "vote_bad": "Both bad",
        "card_sides": "Move it to the bucket beside",
        "card_order": "Move it up or down",
        "card_remove": "Remove it",
    }
    KEY_NAMES: Mapping[str, str] = {
        "Escape": "Esc",
        "Enter": "Enter",
        "Shift+Enter": "Shift Enter",
        "Delete": "Del",
    }

    def number(self, value: float, spec: str = ",") -> str:
        """Write a number as this language does; `spec` is that of `format`."""
        return format(value, spec).translate(str.maketrans(",.", self.NUMBER_SIGNS))

    def count(self, number: int, thing: str) -> str:
        """Return "1 prompt", "2 prompts"."""
        return f"{self.number(number)} {self.THINGS[thing][number != 1]}"

    def day(self, moment: datetime) -> str:
        """Return a day and a time of it."""
        parts = ("year", "month", "day", "hour", "minute")
        return self.DAY.format(**{part: getattr(moment, part) for part in parts})

    def size(self, num_bytes: int) -> str:
        """Return a size as people say it."""
        if num_bytes >= 1e6:
            return f"{self.number(num_bytes / 1e6, '.1f')} MB"
        return f"{self.number(num_bytes / 1e3, '.0f')} kB"

    def duration(self, seconds: float) -> str:
        """Return a time as people say it; its units are written alike in all languages."""
        return duration(seconds)

    def fill(self, sentence: str, **values: Any) -> str:
        """Put values into a sentence; numbers come out as this language writes them."""
        return _Filler(self).vformat(sentence, (), values)

    def step(self, detail: str) -> str:
        """Say what the engine tells of a step, which is English."""
        return detail


class _Filler(string.Formatter):
    def __init__(self, text: English) -> None:
        self._text = text

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, int | float):
            return self._text.number(value, format_spec)
        return str(value)
