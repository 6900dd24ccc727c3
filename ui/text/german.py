"""Deutsch."""

import re
from collections.abc import Mapping

from ui.text.english import English

__all__ = ["German"]


class German(English):
    """German, in the same plain tone: no form of address where one can do without."""

    __slots__ = ()

    CODE = "de"
    NAME = "Deutsch"
    SHORT = "DE"
    SWITCH = "Sprache"
    SWITCH_MORE = "Die Seite wird neu geladen; Dateien und Adapter dieses Besuchs gehen verloren."

    THINGS: Mapping[str, tuple[str, str]] = {
        "bucket": ("Gruppe", "Gruppen"),
        "draw": ("Ziehung von Prompts", "Ziehungen von Prompts"),
        "file": ("Datei", "Dateien"),
        "item": ("Beispiel", "Beispiele"),
        "parameter": ("Parameter", "Parameter"),
        "prompt": ("Prompt", "Prompts"),
        "task": ("Aufgabe", "Aufgaben"),
        # In the one sentence that uses it, the dative.
        "unseen": ("unbekannten Aufgabe", "unbekannten Aufgaben"),
    }
    NUMBER_SIGNS = ".,"

    TIMES = "\u00d7"

    TITLE = "Drag-and-Drop LLMs"
    TAGLINE = "Prompts hinein, LoRA-Adapter heraus."
    HERO = "Prompts ablegen. Adapter bekommen. Sehen, ob er hilft."
    HERO_MORE = (
        "Ein Generator liest Prompts ohne Labels und schreibt einen LoRA-Adapter für ein kleines "
        "Sprachmodell, ohne Trainingslauf. Danach stehen die Antworten mit und ohne Adapter "
        "nebeneinander, und es zeigt sich, wie weit dem Ergebnis zu trauen ist."
    )
    SHOW = "Vorführen"
    SHOW_MORE = (
        "Erzeugt einen Adapter aus {prompts} über Tabellen und fragt beide Modelle, ohne einem zu "
        "sagen, dass SQL gewünscht ist: {question}"
    )
    FOOTER = (
        "Die Dateien bleiben in dieser Sitzung und werden an ihrem Ende gelöscht, außer was in der "
        "Sammlung auf dem eigenen Rechner liegt."
    )
    TAB_WORKBENCH, TAB_LIBRARY, TAB_REPORT = "Werkbank", "Sammlung", "Zeugnis"
    TAB_MEASURE = "Messen"

    LOADING = "Das Basismodell wird geladen"
    DOWNLOADING = "Das Basismodell wird heruntergeladen"
    LOAD_FAILED = "Das Basismodell ließ sich nicht laden."
    LOAD_HINT = "Dateien lassen sich schon ablegen und ordnen."
    RETRY = "Noch einmal"
    DEVICE_READY, DEVICE_LOADING, DEVICE_FAILED = "Bereit", "Lädt", "Fehlgeschlagen"
    CHIP_BASE, CHIP_GENERATOR = "Basis", "Generator"
    NOT_LOADED = "Das Modell ist nicht geladen."

    CANVAS: Mapping[str, str] = {
        "canvas": "Ablage für Prompts",
        "title": "Prompts",
        "mix": "Gewichte der Mischung",
        "edit": "Prompts bearbeiten",
        "help": (
            "Am besten Anweisung, Leerzeile, Eingabe, zwischen Prompts eine Zeile ---; in csv und "
            "jsonl einer je Datensatz. Labels braucht es nicht."
        ),
        "browse": "Dateien wählen",
        "paste": "Prompts einfügen",
        "add_bucket": "Neue Gruppe",
        "clear": "Leeren",
        "picker": "Dateien mit Prompts",
        "paste_help": "Ein Prompt je Zeile, oder Prompts durch eine Zeile --- trennen",
        "paste_into": "Gruppe",
        "paste_add": "Prompts hinzufügen",
        "paste_cancel": "Abbrechen",
        "paste_empty": "Erst einen Prompt schreiben oder einfügen.",
        "pasted": "eingefuegt-{number}.txt",
        "buckets": "Gruppen",
        "no_bucket": "Keine Gruppe mehr da. Eine neue nimmt Dateien auf.",
        "undo": "Rückgängig",
        "keys": (
            "Eine Karte ziehen, oder auf ihr <kbd>←</kbd> <kbd>→</kbd> drücken, oder auf der Karte "
            "eine Gruppe wählen. <kbd>Entf</kbd> entfernt sie; Rückgängig holt sie zurück."
        ),
        "batch": "Prompt-Stapel",
        "or": "oder",
        "moved": "{name} liegt jetzt in {bucket}.",
        "card_removed": "{name} aus {bucket} entfernt.",
        "bucket_removed": "{bucket} entfernt.",
        "filled_bucket_removed": "{bucket} mit {files} entfernt.",
        "all_removed": "Alle Dateien entfernt.",
        "undo_hint": "Rückgängig holt das zurück.",
        "brought_back": "Zurückgeholt.",
        "new_bucket": "Neue Gruppe",
        "bucket_added": "{bucket} hinzugefügt.",
        "name_taken": "Eine Gruppe namens {name} gibt es schon.",
        "name_missing": "Eine Gruppe braucht einen Namen.",
        "renamed": "Die Gruppe heißt jetzt {name}.",
        "call_it": "„{name}“ nennen",
        "mute": "Stumm",
        "mute_one": "{bucket} stumm",
        "muted": "{bucket} zählt nicht mit.",
        "unmuted": "{bucket} zählt wieder mit.",
        "no_suffix": "Ein Name ohne Endung",
        "wrong_kind": "{kind} ist keine Prompt-Datei. Es gehen {kinds}.",
        "too_large": (
            "{size}; erlaubt sind {limit} MB je Datei. Eine Auswahl genügt: einige hundert Prompts "
            "sind reichlich."
        ),
        "too_many": "Es liegen schon {number} Dateien hier. Erst welche entfernen.",
        "folder": "Das ist ein Ordner. Bitte die Dateien darin ablegen.",
        "broke_off": "Das Hochladen brach ab. Verbindung prüfen und noch einmal ablegen.",
        "added": "{files} in {bucket} abgelegt.",
        "the_canvas": "der Ablage",
        "refused_one": "Die Datei wurde nicht aufgenommen.",
        "refused_one_of": "{number} von {files} wurde nicht aufgenommen.",
        "refused": "{number} von {files} wurden nicht aufgenommen.",
        "kept_none": "Alles andere ist noch da.",
        "kept_one": "Die andere liegt auf der Ablage, und alles Frühere ist noch da.",
        "kept": "Die anderen {number} liegen auf der Ablage, und alles Frühere ist noch da.",
        "close_errors": "Fehlerliste schließen",
        "loaded": "Beispieldateien geladen.",
        "weight": "Gewicht",
        "drop_here": "Dateien hier ablegen",
        "bucket_name": "Name der Gruppe, {bucket}",
        "remove_bucket": "Gruppe {bucket} entfernen",
        "files_in": "Dateien in {bucket}",
        "some_of": "{number} von {files}",
        "empty": "leer",
        "weight_of": "Gewicht von {bucket}",
        "weight_number": "Gewicht von {bucket}, als Zahl",
        "weight_mix": "Gewicht von {bucket} in der Mischung",
        "less": "Weniger davon. Geht nur mit Adapter summieren.",
        "kept_unused": "Behalten, nicht benutzt.",
        "no_part": "Zählt mit, sobald Prompts darin sind.",
        "share": "{share} % des Stapels",
        "remove_card": "{name} entfernen",
        "mend": "Nicht benutzt. Die Datei verbessern und neu ablegen, oder entfernen.",
        "preview": "„{words}“",
        "uploading": "lädt hoch",
        "reading": "wird gelesen",
        "not_used": "{prompts}, nicht benutzt",
        "split_lines": "Nach Zeilen trennen",
        "split_lines_of": "{name} nach Zeilen trennen",
        "reading_again": "{name} wird neu gelesen.",
        "split_auto": "Trennen: auto",
        "split_by_lines": "Trennen: Zeilen",
        "split_by_paragraphs": "Trennen: Absätze",
        "split_by_separator": "Trennen: ---",
        "split_of": "Wie {name} in Prompts zu trennen ist",
        "bucket_of": "Gruppe von {name}",
        "num_uploading": "{number} im Hochladen",
        "num_reading": "{number} in Arbeit",
        "num_faulty": "; {files} nicht benutzt",
        "side_none": "Auf dieser Seite ist keine Gruppe.",
    }
    CANVAS_FULL = "Auf dieser Ablage liegt mehr, als sie fasst. Bitte die Seite neu laden."
    UNNAMED = "Namenlos"
    SPLIT_QUESTION = "Als ein langer Prompt gelesen. Lieber nach Zeilen trennen?"
    VISIT_FULL = (
        "Dieser Besuch hat schon {number} Dateien gelesen, mehr geht nicht. Die Seite neu laden, "
        "um von vorn zu beginnen."
    )
    UPLOAD_GONE = "Die hochgeladene Datei ist nicht mehr da. Bitte noch einmal ablegen."

    EXAMPLES = "Keine Dateien zur Hand?"
    EXAMPLES_MORE = (
        "Jedes Beispiel legt seine Dateien in eine Gruppe. Wir schrieben sie für diese Seite."
    )
    EXAMPLE_LOAD = "Laden"
    EXAMPLE_LOAD_ONE = "Laden: {title}"
    EXAMPLE_LOAD_ALL = "Alle drei laden"
    EXAMPLE_WORDS: Mapping[str, tuple[str, str]] = {
        "sql": ("Fragen zu SQL", "Fragen an eine Tabelle, in einfachem Englisch."),
        "legal": (
            "Vertragsklauseln",
            "Kurze Klauseln, je mit einer Ja-Nein-Frage oder zu benennen.",
        ),
        "tone": (
            "Ein freundlicherer Ton",
            "Barsche Antworten und saure Kritiken, freundlich zu machen.",
        ),
    }
    BUCKETS: Mapping[str, str] = {"SQL": "SQL", "Legal": "Verträge", "Tone of voice": "Tonfall"}

    SYNTHESIZE = "Adapter erzeugen"
    STOP = "Anhalten"
    MIX = "Mischen"
    MIX_POOL, MIX_SUM = "Prompts vereinen", "Adapter summieren"
    MIX_INFO = (
        "Vereinen: ein Adapter aus allen Prompts, gezogen im Verhältnis der Gewichte. "
        "Summieren: ein Adapter je Gruppe, nach Gewicht addiert und auf einen Rang gekürzt."
    )
    ADVANCED = "Weiteres"
    SEED = "Startwert"
    SEED_INFO = "Für die Ziehung der Prompts. Gleiche Prompts und gleicher Wert, gleicher Adapter."
    HINT_NO_BUCKET = "Erst eine Gruppe anlegen."
    HINT_NO_PROMPTS = "Erst Dateien mit Prompts ablegen."
    HINT_UNREADABLE = "Noch ist keine Datei lesbar."
    USED = "{files}, {prompts}"
    USED_NOT = "{used}; {files} nicht benutzt"

    STAGES: Mapping[str, tuple[str, str]] = {
        "wait": ("Warten", "Das Modell ist beschäftigt"),
        "download": ("Herunterladen", "Basismodell und Text-Encoder, nur einmal"),
        "load": ("Laden", "Basismodell, Encoder, Generator"),
        "read": ("Lesen", ""),
        "encode": ("Kodieren", "Prompts durch den Text-Encoder"),
        "decode": ("Dekodieren", "Aus Gewichts-Tokens wird eine LoRA"),
        "ask": ("Fragen", "Die Basis beantwortet die vollen Prompts"),
        "refine": ("Verfeinern", "Training auf diesen Prompts"),
        "check": ("Prüfen", "Mit PEFT neu laden und vergleichen"),
        "base": ("Basis", "Das unveränderte Modell antwortet"),
        "adapter": ("Dieser Adapter", "Antworten mit dem Adapter"),
        "shared_lora": ("Gemeinsames", "Antworten mit dem, was alle Adapter teilen"),
        "few_shot": ("Mit Beispielen", "Die Basis antwortet nach gezeigten Zeilen"),
        "train": ("Trainieren", "AdamW auf den Zeilen mit Label"),
    }
    STAGE_STATES: Mapping[str, str] = {
        "waiting": "wartet",
        "running": "läuft",
        "done": "fertig",
        "failed": "fehlgeschlagen",
        "stopped": "angehalten",
    }
    RUNS: Mapping[str, Mapping[str, str]] = {
        "synthesis": {
            "running": "Der Adapter entsteht",
            "done": "Wie er entstand",
            "stopped": "Angehalten. Nichts wurde erzeugt, und die Prompts sind, wie sie waren.",
            "failed": "Es wurde kein Adapter erzeugt.",
        },
        "remix": {
            "running": "Wird neu gemischt",
            "done": "Wie gemischt wurde",
            "stopped": "Angehalten. Der Adapter ist, wie er war.",
            "failed": "Nicht neu gemischt; der Adapter ist, wie er war.",
        },
        "remake": {
            "running": "Der Adapter des Rezepts entsteht",
            "done": "Wie er wieder entstand",
            "stopped": "Angehalten. Der Adapter ist, wie er war.",
            "failed": "Nicht noch einmal entstanden.",
        },
        "refinement": {
            "running": "Der Adapter wird verfeinert",
            "done": "Wie verfeinert wurde",
            "stopped": "Angehalten. Der Adapter ist, wie er war.",
            "failed": "Nicht verfeinert; der Adapter ist, wie er war.",
        },
        "measurement": {
            "running": "Der Adapter wird gemessen",
            "done": "Wie gemessen wurde",
            "stopped": "Angehalten. Was bis dahin gefunden wurde, steht unten.",
            "failed": "Nicht zu Ende gemessen.",
        },
        "training": {
            "running": "Eine LoRA wird trainiert",
            "done": "Wie trainiert wurde",
            "stopped": "Angehalten. Die LoRA, wie sie zuletzt bewertet wurde, steht unten.",
            "failed": "Nicht zu Ende trainiert.",
        },
    }
    STOPPED_UNSCORED = "Angehalten, bevor etwas bewertet war; es gibt also kein neues Ergebnis."
    BROKE = (
        "Etwas ging schief, das nicht schiefgehen sollte. Näheres steht im Protokoll der "
        "Anwendung; bitte noch einmal versuchen."
    )
    PREPARING = "Zip wird vorbereitet"

    SHELF = "Adapter dieses Besuchs"
    MADE_FROM = "{prompts} aus {files}"
    PROMPTS_UNKNOWN = "Prompts unbekannt"
    MADE_IN = "Gewichte in {seconds:.2f} s"
    REFINED_IN = "dann verfeinert in {seconds:.0f} s"
    REFINED_ON_LABELS_IN = "dann mit Labels verfeinert in {seconds:.0f} s"
    TRAINED_IN = "mit Labels trainiert in {seconds:.0f} s"
    RANK = "Rang {rank}"
    CUT_BACK = "Die Summe wurde auf Rang {rank} gekürzt und behält {share:.0f} % der Änderung."
    HASH = "SHA-256 {sha256}"
    FINGERPRINT = "Fingerabdruck der Gewichtsänderung"
    STRENGTH = "Stärke"
    STRENGTH_INFO = "0 ist die Basis. Wirkt ab dem nächsten Wort."
    STRENGTH_STRONG = "Stark: Antworten können zu Unsinn werden."
    DOWNLOAD = "PEFT-Zip herunterladen"
    DOWNLOAD_ANYWAY = "Trotzdem herunterladen"
    DOWNLOAD_FAILED = "Kein Zip"
    STALE = "Aus früheren Prompts erzeugt."

    TAKE = "Behalten oder exportieren"
    TAKE_CLOSE = "Schließen"
    ADAPTER_NAME = "Name"
    KEEP_IT = "Behalten"
    KEEP_IT_HERE = (
        "Adapter bleiben in der Sammlung auf diesem Rechner, bis sie dort gelöscht werden."
    )
    KEEP_IT_VISIT = (
        "Adapter bleiben nur für diesen Besuch und gehen an seinem Ende verloren. Was bleiben "
        "soll, bitte herunterladen."
    )
    KEEP_TEXTS = "Auch die Texte der Prompts behalten"
    KEEP_TEXTS_INFO = "Sonst nur Namen, Anzahlen und Prüfsummen der Dateien."
    KEEP_NOW = "Diesen Adapter behalten"
    KEPT = "Liegt jetzt in der Sammlung als <b>{name}</b>."
    KEPT_ALREADY = "Liegt schon in der Sammlung, als <b>{name}</b>."
    KEEP_FAILED = "Nicht behalten."
    EXPORT = "Exportieren"
    EXPORT_MORE = "Für andere Programme, in der eingestellten Stärke."
    EXPORT_SHARED = (
        "Für andere Programme, in der eingestellten Stärke. Ein verschmolzenes Modell ist so groß "
        "wie seine Basis; es entsteht nur, wo die App auf dem eigenen Rechner läuft."
    )
    EXPORT_FORMAT = "Format"
    EXPORT_FORMATS: Mapping[str, str] = {
        "gguf": "GGUF für llama.cpp",
        "merged": "Verschmolzenes Modell",
        "hub": "Hugging Face Hub",
    }
    EXPORT_DO: Mapping[str, str] = {
        "gguf": "GGUF-Datei schreiben",
        "merged": "Modell verschmelzen",
        "hub": "Zum Hub hochladen",
    }
    EXPORT_DOING: Mapping[str, str] = {
        "gguf": "Die GGUF-Datei wird geschrieben",
        "merged": "Verschmelzen, dann Vergleich mit dem Adapter",
        "hub": "Prüfung mit PEFT, dann Hochladen",
    }
    EXPORT_FAILED: Mapping[str, str] = {
        "gguf": "Keine GGUF-Datei entstanden.",
        "merged": "Kein verschmolzenes Modell entstanden.",
        "hub": "Nicht hochgeladen.",
    }
    EXPORTED = "<b>{name}</b>, {size}, ist fertig."
    EXPORT_DOWNLOAD = "Datei herunterladen"
    EXPORT_USAGE = "Verwendung"
    GGUF_BASE = (
        "base.gguf steht für das Basismodell als GGUF-Datei: eine herunterladen, oder mit "
        "convert_hf_to_gguf.py von llama.cpp eine machen."
    )
    ZIP_FAILED = (
        "Das Zip ließ sich nicht schreiben: {reason}. Platz schaffen, noch einmal versuchen."
    )
    HUB_REPO = "Repositorium"
    HUB_REPO_LIKE = "name/adapter"
    HUB_PRIVATE = "Privat"
    HUB_PRIVATE_INFO = (
        "Namen von Gruppen und Dateien, Anzahlen und Prüfsummen gehen mit, Texte von Prompts nicht."
    )
    HUB_TOKEN = "Token"
    HUB_TOKEN_OWN = (
        "Mit Schreibrecht. Wird einmal verwendet und nicht behalten. Ohne Token gilt die Anmeldung "
        "dieses Rechners."
    )
    HUB_TOKEN_VISITOR = "Ein eigenes, mit Schreibrecht. Wird einmal verwendet und nicht behalten."
    HUB_TOKEN_NEEDED = "Hier braucht es ein eigenes Token mit Schreibrecht."
    PUSHED_PRIVATE = "Hochgeladen, privat: {url}"
    PUSHED_PUBLIC = "Hochgeladen, öffentlich: {url}"

    LIBRARY_LIST = "Behaltene Adapter"
    LIBRARY_EMPTY = (
        "Noch nichts behalten. Auf der Werkbank einen Adapter erzeugen, dann: Behalten oder "
        "exportieren."
    )
    LIBRARY_LOAD = "Auf die Werkbank legen"
    LIBRARY_LOADING = "Der Adapter wird gelesen und geprüft"
    LIBRARY_LOAD_FAILED = "Nicht geladen."
    LIBRARY_FAILED = "Die Sammlung ist, wie sie war."
    LIBRARY_FULL = "Ein Besuch behält hier {number} Adapter, gelöschte mitgezählt."
    RENAME = "Umbenennen"
    DUPLICATE = "Kopieren"
    DELETE = "Löschen"
    UNDO_DELETE = "Rückgängig: {name} zurückholen"
    RECIPE = "Rezept, JSON"
    IMPORT = "Importieren"
    IMPORT_MORE = (
        "Importieren nimmt ein PEFT-Zip oder ein Rezept; dessen Dateien müssen auf der Ablage "
        "liegen, wenn es ihre Texte nicht enthält."
    )
    IMPORT_FAILED = "<b>{name}</b> wurde nicht importiert."
    REMADE = "Die Gewichte sind die des Rezepts, bis aufs letzte Bit"
    REMADE_OTHERWISE = "Neu erzeugt; dieser Rechner rundet anders als der erste"
    DAMAGED = "Beschädigt: {key}"
    DAY = "{day:02d}.{month:02d}.{year:d}, {hour:02d}:{minute:02d}"
    STRENGTH_OF = "Stärke {strength:.2f}"
    IMPORTED_HERE = "importiert"
    UNCHECKED = "Nicht gemessen"
    VOTE_OUTCOMES: Mapping[str, str] = {
        "won": "gewonnen",
        "lost": "verloren",
        "tie": "unentschieden",
        "bad": "beide schlecht",
    }

    REFINE = "Verfeinern"
    REFINE_MORE = (
        "Trainiert diesen Adapter ein, zwei Minuten lang auf den eigenen Prompts, ohne Labels: Das "
        "Basismodell liest jeden vollen Prompt und bringt dem Adapter bei, ohne die Anweisung zu "
        "antworten. Wo die Basis trotz Anweisung irrt, lehrt sie den Irrtum."
    )
    REFINE_NEEDS = (
        "Nötig ist eine Leerzeile zwischen Anweisung und Eingabe, in mindestens 8 Prompts."
    )
    REFINE_START = "Jetzt verfeinern"
    REFINE_LATER = "Nicht jetzt"
    REFINE_LABELS = "Aus den Labels lernen"
    REFINE_LABELS_INFO = "Die Dateien haben welche. Sonst werden die Antworten der Basis gelernt."
    UNDO = "Verfeinern rückgängig"

    COMPARE = "Vergleich"
    COMPARE_MORE = "Beide Antworten kommen aus einem Durchlauf, mit gleichem Startwert."
    COMPARE_BASE_ONLY = (
        "Mit dem Basismodell lässt sich schon reden. Die Antwort mit Adapter erscheint daneben, "
        "sobald einer erzeugt ist."
    )
    BASE, ADAPTED = "Basis", "Mit Adapter"
    BASE_LABEL = "Basis"
    ASK = "Beide Modelle fragen"
    SEND, CLEAR = "Senden", "Leeren"
    BESIDE = "Vergleichen mit"
    OTHER = "Anderer Adapter"
    ANSWERS = "{side}, Antworten"
    DIFFERENCES = "Unterschiede"
    DIFFERS = "nicht in der anderen Antwort"
    FORK = "von hier an ist kaum ein Wort gemeinsam"
    AGAIN = "Noch einmal fragen"
    AGAIN_SIDE = "Noch einmal fragen: {side}"
    EDIT = "Ändern und neu senden"
    COPY = "Letzte Antwort kopieren"
    COPY_SIDE = "Letzte Antwort kopieren: {side}"
    CHANGED_TO = "dann"
    LEFT_OUT = "auf dieser Seite weggelassen"
    ASK_MODE = "Was gesendet wird"
    ASK_MODE_INFO = "Die Anweisung ist, was vor der ersten Leerzeile steht."
    ASK_MODES: Mapping[str, str] = {
        "written": "Wie geschrieben",
        "bare": "Ohne die Anweisung",
        "told": "Anweisung nur nach links",
    }
    BLIND = "Blind"
    BLIND_SIDES = ("A", "B")
    VOTES: Mapping[str, str] = {
        "a": "A ist besser",
        "b": "B ist besser",
        "tie": "Gleich gut",
        "bad": "Beide schlecht",
    }
    VOTED_BETTER = "besser"
    VOTES_TITLE = "Stimmen"
    VOTES_MORE = (
        "Die beiden tauschen zufällig die Plätze; wer wer ist, wird nach jeder Stimme gesagt. Die "
        "Stärke bleibt solange, wie sie ist."
    )
    VOTE_TOLD: Mapping[str, str] = {
        "right": "gewonnen",
        "left": "verloren",
        "tie": "gleich gut",
        "bad": "beide schlecht",
    }
    VOTES_NONE = "Noch keine Stimme für eine Seite."
    VOTES_FEW = "Zu wenige Stimmen für ein Urteil."
    WIN_RATE = (
        "Gewann {share:.0f} % der Stimmen, die sich entschieden (95-%-Intervall {low:.0f} bis "
        "{high:.0f})."
    )
    VERSUS = "gegen"
    KEEP = "Gespräch behalten:"
    KEEPS: Mapping[str, str] = {"markdown": "Markdown", "json": "JSON", "votes": "Stimmen, JSONL"}
    TRANSCRIPT_QUESTION = "Frage"
    TRANSCRIPT_VOTE = "Besser, blind beurteilt"
    EMPTY_BASE = "Hier erscheinen die Antworten des Basismodells."
    EMPTY_ADAPTED = (
        "Noch kein Adapter. Seine Antworten erscheinen hier, neben denen des Basismodells."
    )
    EMPTY_ADAPTED_READY = (
        "Ohne die Anweisung aus den Dateien fragen: Der Adapter soll sie in sich tragen."
    )
    ASKED_BEFORE = "Gefragt, bevor es einen Adapter gab."
    NOW_ASKED = "Ab hier: {name}"
    NOW_OTHERS = "Ab hier: andere Modelle"
    SAME = "wie die Basis, Token für Token"
    STOPPED_TURN = "angehalten"
    TOKENS = "{number} Tok."
    TOKENS_PER_SECOND = "{number:.0f} Tok./s"
    FIRST_TOKEN = "erstes Token {seconds:.2f} s"
    SEED_USED = "Startwert {seed}"
    CUT_AT = "nach {number} Tokens abgeschnitten"
    TRY = "Probieren:"
    SAMPLING = "Auswahl der Wörter"
    SYSTEM_PROMPT = "Systemprompt"
    MAX_TOKENS = "Höchstens so viele Tokens"
    TEMPERATURE = "Temperatur"
    TEMPERATURE_INFO = "0 nimmt stets das wahrscheinlichste."
    TOP_P, TOP_K = "Top-p", "Top-k"
    TOP_K_INFO = "0 behält alle."
    PENALTY = "Strafe für Wiederholung"
    CONTEXT = "Frühere Fragen und Antworten mitsenden"
    CONTEXT_INFO = "Aus: Jede Frage steht für sich, wie im Training des Generators."

    CHECKS = "Prüfung"
    CHECKS_ON = "an {prompts} von hier"
    CHECKS_NONE = (
        "Noch kein Adapter. Hier wird stehen, ob er das Modell ändert, ob er die Anweisung in sich "
        "trägt und wo sich die Gewichte geändert haben."
    )
    CHECKS_RUNNING = "Wird an den eigenen Prompts gemessen. Der Chat geht schon."
    CHECKS_NO_PROMPTS = (
        "Er kam ohne seine Prompts, und früher wurde nichts gemessen. Fragen zeigen, was er tut."
    )
    CHECKS_FAILED = "Ließ sich nicht messen."
    VERDICT_EFFECT, VERDICT_SHARE = "{effect:.2g} Nat", "{same} von {number}"
    VERDICT_COSINE = "Kosinus {similarity:.2f}"
    VERDICTS: Mapping[str, tuple[str, str]] = {
        "changes": (
            "Ändert das Modell",
            "Auf Prompts wie diese antwortet es anders als die Basis.",
        ),
        "nothing": (
            "Bewirkt nichts Messbares",
            "Unter 0,01 weichen Antworten kaum je von der Basis ab.",
        ),
        "strongest": (
            "Ändert das Modell ungewöhnlich stark",
            "Antworten können zu Unsinn werden; weniger Stärke versuchen.",
        ),
        "carries": (
            "Trägt die Anweisung",
            "Es antwortet auf diese Prompts ohne die Anweisung wie das Modell mit ihr.",
        ),
        "carries_some": (
            "Trägt die Anweisung zum Teil",
            "Nur manchmal antwortet es ohne die Anweisung wie das Modell mit ihr.",
        ),
        "carries_none": (
            "Trägt die Anweisung nicht",
            "Ohne die Anweisung antwortet es auf diese Prompts anders als das Modell mit ihr.",
        ),
        "unlike": (
            "Anders als alles im Training",
            "Keine Aufgabe, an der der Generator geprüft wurde, lag so weit davon.",
        ),
        "refined": (
            "Auf diesen Prompts verfeinert",
            "Es wurde gelehrt, sie ohne die Anweisung zu beantworten. Andere probieren.",
        ),
        "refined_alike": (
            "Eine Antwort auf alles gelernt",
            "Es wurde gelehrt, fast alle diese Prompts gleich zu beantworten. Ob das stimmt, sagt "
            "die Wirkung nicht.",
        ),
        "trained": ("Auf diesen Zeilen trainiert", "Ihre Labels hat er gelernt. Andere probieren."),
        "untold": (
            "Keine Anweisung zum Weglassen",
            "Um zu sehen, ob der Adapter sie trägt, braucht es einen Prompt mit einer Leerzeile "
            "zwischen Anweisung und Eingabe, von höchstens 256 Tokens.",
        ),
    }
    OUTLOOK = (
        "Bei {n_tasks} mit etwa gleicher Übereinstimmung änderten Adapter die Wertung ohne die "
        "Anweisung um {gain:+.2f} ({low:+.2f} bis {high:+.2f})."
    )
    OUTLOOK_RANKS = "Rangkorrelation von Übereinstimmung und Gewinn: {correlation:+.2f}."
    WARNINGS: Mapping[str, tuple[str, str]] = {
        "nothing": (
            "Dieser Adapter hilft wahrscheinlich nicht.",
            "Er lässt das Modell, wie es war.",
        ),
        "carries_none": (
            "Dieser Adapter hilft wahrscheinlich nicht.",
            "Er trägt die Anweisung nicht.",
        ),
        "unlike": (
            "Diese Prompts gleichen nichts, was der Generator gesehen hat.",
            "Keine Aufgabe, an der er geprüft wurde, liegt so weit von seinem Training; was dort "
            "gefunden wurde, muss hier nicht gelten.",
        ),
        "strongest": (
            "Mit diesem Adapter können Antworten zu Unsinn werden.",
            "Er ändert das Modell ungewöhnlich stark; weniger Stärke versuchen.",
        ),
        "refined_alike": (
            "Dieser Adapter hat für fast alle diese Prompts ein und dieselbe Antwort gelernt.",
            "Stimmt sie, so stimmt auch er. Wenn nicht, kennt das Modell, von dem er lernte, die "
            "Aufgabe nicht: beim vorigen Adapter bleiben, mit Labels verfeinern oder mit Prompts, "
            "die mehr sagen.",
        ),
    }
    WARNING_TRY = (
        "Unten lässt er sich verfeinern; auch mehr Prompts helfen (am besten 16 oder mehr). An den "
        "Dateien liegt es nicht."
    )
    WARNING_TRY_REFINED = (
        "Das lässt sich rückgängig machen; auch mehr Prompts helfen (am besten 16 oder mehr). An "
        "den Dateien liegt es nicht."
    )
    WARNING_TRY_STRENGTH = "Vielleicht hilft auch mehr Stärke."
    EFFECT = "Wirkung auf das Modell"
    EFFECT_MORE = "KL von Basis zu Adapter, in Nat, am nächsten Token der eigenen Prompts."
    EFFECT_TOLD = "Wirkung {effect:.3g} Nat"
    EFFECT_NONE, EFFECT_STRONG = "keine Wirkung", "stark"
    NEAREST = "Nächste Trainingsaufgaben, Kosinus"
    NEAREST_EXAMINED = (
        "Der Generator wurde an {n_tasks} geprüft, bei {lowest:.2f} bis {highest:.2f}."
    )
    NEAREST_RANKS = (
        "Rangkorrelation davon mit dem Gewinn: {correlation:+.2f} ({low:+.2f} bis {high:+.2f})."
    )
    NORMS = "Relative Änderung der Gewichte"
    NORMS_MORE = "‖ΔW‖ / ‖W‖ je Schicht und Matrix. Es zeigt, wo und wie viel, nicht wie gut."
    NORMS_TOLD = "Relative Änderung der Gewichte: von {low:.2g} bis {high:.2g} Prozent"
    NORMS_LAYER = "Schicht"
    NORMS_ALL = "Alle Zahlen, in Prozent"

    PROOF = "Liest er diese Prompts?"
    PROOF_MORE = (
        "Erzeugt Adapter aus anderen Prompts und aus diesen mit vertauschten Wörtern und stellt "
        "sie daneben, an bis zu 16 der eigenen Prompts. Dauert einige Sekunden."
    )
    PROOF_RUN, PROOF_AGAIN = "Herausfinden", "Neu messen"
    PROOF_STEPS: Mapping[str, str] = {
        "decode": "Die anderen entstehen",
        "check": "Es wird gemessen",
    }
    PROOF_MEASURE = (
        "Nat je Token, die dieser Adapter bei den Antworten spart, die das Modell mit der "
        "Anweisung gibt, mit 95-%-Intervallen. Rechts von 0 ist dieser Adapter besser. Gemessen an "
        "{prompts}, aus denen er entstand."
    )
    PROOF_INTERVAL = "({low:+.2f} bis {high:+.2f})"
    PROOF_CONTROLS: Mapping[str, str] = {
        "wrong": "Aus anderen Prompts ({names})",
        "mean": "Was alle Adapter gemeinsam haben",
        "shuffled": "Aus vertauschten Wörtern",
        "base": "Kein Adapter",
    }
    PROOF_YES = (
        "Ja. Andere Prompts, und was alle Adapter gemeinsam haben, sind deutlich schlechter."
    )
    PROOF_NO: Mapping[str, str] = {
        "wrong": "Kein Beleg: Einer aus anderen Prompts ist etwa so gut.",
        "mean": "Kein Beleg: Was allen Adaptern dieses Generators gemein ist, ist etwa so gut.",
    }
    PROOF_WORDS_ONLY = "Die Reihenfolge der Wörter zählt kaum: Vertauscht sind sie etwa so gut."
    PROOF_NONE = "Dazu braucht es zwei Prompts mit einer Leerzeile zwischen Anweisung und Eingabe."

    MEASURE = "Was bringt der Adapter auf eigenen Zeilen?"
    MEASURE_MORE = (
        "Ein Teil der Zeilen wird bewertet: mit der Basis, mit einem Prompt mit Beispielen, mit "
        "dem, was alle Adapter teilen, und mit dem Adapter in der Leiste. Aus den übrigen kann "
        "eine LoRA auf die übliche Art lernen."
    )
    MEASURE_EMPTY = (
        "Noch kein Adapter. Einen auf der Werkbank erzeugen oder aus der Sammlung holen. Dann hier "
        "Zeilen mit Labels ablegen und sehen, was er bringt, neben der Basis und neben einer LoRA, "
        "die darauf trainiert wird."
    )
    MEASURE_OF = "Adapter in der Leiste"
    MEASURE_FILE = "Zeilen mit Labels"
    MEASURE_FILE_INFO = (
        "Eine csv-, tsv-, jsonl-, json- oder parquet-Datei: Prompts, und neben jedem sein Label, "
        "in einer Spalte namens label, answer oder response."
    )
    MEASURE_ROWS = "<b>{name}</b>: {prompts}, {labelled} mit Label."
    MEASURE_REFUSED = "<b>{name}</b> taugt nicht zum Messen."
    MEASURE_LIMIT = "Höchstens zu bewertende Zeilen"
    MEASURE_LIMIT_INFO = "Nie mehr als die Hälfte: Die anderen bleiben zum Lernen."
    MEASURE_SEEN = "Auch Prompts bewerten, aus denen er entstand"
    MEASURE_SEEN_INFO = (
        "Ihre Labels kennt er nicht; auf diesen Prompts kann er aber besser sein als auf neuen."
    )
    MEASURE_START = "Messen"
    MEASURE_LEFT = "noch etwa {duration}"
    MEASURE_ANSWERS = "{done} von {total} Antworten"
    MEASURE_STEP = "Schritt {done} von {total}, Verlust {loss:.3f}"
    MEASURE_SCORING = "Bewertung nach {steps} Schritten"
    MEASURE_TITLE = "{adapter} auf {file}"
    MEASURE_FACTS = "{scored} von {rows} Zeilen bewertet, {left} bleiben zum Lernen"
    MEASURE_OTHER = (
        "Das gilt für {measured}; in der Leiste liegt jetzt {now}. Was dieser bringt, zeigt eine "
        "neue Messung."
    )
    MEASURE_MODES: Mapping[str, str] = {"bare": "Nackte Eingaben", "full": "Volle Prompts"}
    MEASURE_LABELS: Mapping[str, str] = {
        "base": "Basis",
        "few_shot": "Basis, Prompt mit Beispielen",
        "shared_lora": "Was alle Adapter teilen",
        "adapter": "Dieser Adapter",
        "trained_lora": "LoRA, von Grund auf trainiert",
        "warm_lora": "LoRA, von diesem Adapter aus trainiert",
    }
    MEASURE_STEPS = "{label}, {steps} Schritte"
    MEASURE_METRICS: Mapping[str, str] = {
        "choice": "Anteil der Antworten, die mit dem richtigen Label beginnen",
        "exact": "Anteil der Antworten, die das Label sind",
        "rouge": "ROUGE-L von Antwort und Label",
    }
    MEASURE_SCORE = "{mode}: Dieser Adapter erreicht <b>{score}</b> ({low} bis {high})."
    MEASURE_VERDICTS: Mapping[str, str] = {
        "gain": "Klar besser als: {rows}.",
        "loss": "Klar schlechter als: {rows}.",
        "no clear difference": "Kein klarer Unterschied zu: {rows}.",
        "too few items": "Zu wenige Zeilen für einen Vergleich mit: {rows}.",
    }
    MEASURE_LEAD = "{label} ({lead}, {low} bis {high})"
    MEASURE_COMMONEST = "Immer „{label}“ zu antworten, erreichte {score}."
    MEASURE_ALWAYS = "Er antwortet auf jede Zeile gleich: „{answer}“."
    MEASURE_PASSED = (
        "Training von Grund auf erreichte ebenso viel nach {seconds:.1f} s Training, in {steps} "
        "Schritten."
    )
    MEASURE_NOT_PASSED = (
        "Training von Grund auf erreichte in {seconds:.1f} s, {steps} Schritten, nicht so viel."
    )
    MEASURE_TOOK: Mapping[str, str] = {
        "plain": "Den Adapter zu erzeugen dauerte {seconds:.2f} s, ohne Labels.",
        "labels": "Den Adapter zu erzeugen dauerte {seconds:.2f} s, das Lernen aus Labels "
        "eingeschlossen.",
        "estimated": "Einen Adapter aus ebenso vielen Prompts zu erzeugen dauert hier etwa "
        "{seconds:.2f} s, ohne Labels.",
    }
    MEASURE_HEAD: Mapping[str, str] = {
        "row": "Wer antwortet",
        "score": "Wertung",
        "interval": "95-%-Intervall",
        "choice": "Richtige Option",
        "nll": "Nat je Token (weniger ist besser)",
        "lead": "Vorsprung dieses Adapters",
        "items": "Beantwortete Zeilen",
        "train": "Trainiert",
    }
    MEASURE_INTERVAL = "{low} bis {high}"
    MEASURE_LEAD_OF = "{lead} ({low} bis {high})"
    MEASURE_SO_FAR = "{done} von {total}"
    MEASURE_CURVE = "Wertung über der Zeit, die sie kostet"
    MEASURE_AXIS = "Sekunden zum Erzeugen, ohne das Bewerten, logarithmisch"
    MEASURE_LINES: Mapping[str, str] = {
        "base": "Basis",
        "adapter": "Adapter",
        "trained_lora": "Von Grund auf",
        "warm_lora": "Vom Adapter aus",
    }
    MEASURE_POINT = "{score} nach {seconds:.1f} s"
    MEASURE_NOTES = "Wie gemessen wurde, im Einzelnen"
    TRAIN = "Eine echte LoRA auf den übrigen Zeilen trainieren"
    TRAIN_MORE = (
        "Mit den Labels, ohne die der Adapter auskommt. Bewertet wird sie nach 5, 10, 20, 40 "
        "Schritten und so fort; so zeigt sich, wie lange Training für ebenso viel braucht."
    )
    TRAIN_OF = "Auf den übrigen Zeilen von {file}, neben {adapter}."
    TRAIN_FIRST = "Erst den Adapter in der Leiste auf diesen Zeilen messen."
    TRAIN_STEPS = "Schritte"
    TRAIN_STEPS_INFO = "Jeder lernt aus acht Zeilen."
    TRAIN_WARM = "Bei diesem Adapter beginnen"
    TRAIN_WARM_INFO = "Sonst von Grund auf."
    TRAIN_START = "Trainieren"
    TRAINED_HERE = "Hier trainiert:"
    TRAIN_TAKE: Mapping[str, str] = {
        "trained_lora": "LoRA von Grund auf in die Leiste legen",
        "warm_lora": "LoRA von diesem Adapter aus in die Leiste legen",
    }
    TRAIN_TAKING = "Die LoRA wird mit PEFT neu geladen"
    TRAIN_NOT_TAKEN = "Nicht in die Leiste gelegt."
    TRAIN_SHELVED = "Früher trainiert, und noch unter den Adaptern dieses Besuchs: {names}."
    MEASURE_KEEP = "Das Ergebnis behalten:"
    MEASURE_KEEPS: Mapping[str, str] = {
        "items": "Antworten, CSV",
        "json": "JSON",
        "markdown": "Markdown",
    }
    SCORED = "{file}: {scores}"
    SCORED_AT = "{file}, bei Stärke {strength:.2f}"
    SCORED_MODE = "{mode} {score}"
    SCORED_BESIDE = "{mode} {score} (Basis {base})"

    REPORT_TITLES: Mapping[str, str] = {
        "heldout": "Wie gut ist dieser Generator bei unbekannten Aufgaben?",
        "refine": "Wie gut ist er, mit den Prompts unbekannter Aufgaben verfeinert?",
        "train": "Wie gut ist er bei Aufgaben, mit denen er trainiert wurde?",
    }
    REPORT_SPLITS: Mapping[str, str] = {
        "heldout": "Unbekannte Aufgaben",
        "refine": "Unbekannte Aufgaben, verfeinert",
        "train": "Aus dem Training",
    }
    REPORT_HOLDOUTS: Mapping[str, str] = {
        "family": "Neue Familie",
        "primitive": "Neue Operation",
        "composition": "Neue Verkettung",
        "pair": "Neues Paar aus bekannter Aufgabe und bekanntem Format",
        "format": "Unbekanntes Format",
    }
    REPORT_PART = "{split}: {part}"
    REPORT_METRICS: Mapping[str, str] = {
        "score": "Wertung",
        "format_share": "Richtiges Format",
        "nll": "Verlust",
    }
    REPORT_METRIC_NOTES: Mapping[str, str] = {
        "score": (
            "Das Maß der Aufgabe selbst, 0 bis 1. Marken sind Mittelwerte, Balken "
            "95-%-Intervalle über Familien."
        ),
        "format_share": "Anteil der Antworten im verlangten Format, bei Aufgaben, die eins haben.",
        "nll": "Nat je Token der richtigen Antwort. Weniger ist besser.",
    }
    REPORT_ABOUT = "Es geht um den Generator; die Werkbank prüft die eigenen Prompts."
    REPORT_GROUP, REPORT_METRIC = "Aufgaben", "Maß"
    REPORT_ROWS: Mapping[str, str] = {
        "base": "Basis",
        "few_shot": "Basis, Prompt mit Beispielen",
        "mean_lora": "Mittel der Trainings-LoRAs",
        "nearest_lora": "LoRA der nächsten Aufgabe",
        "multi_task_lora": "Eine LoRA für alle Aufgaben",
        "shared_lora": "Gemeinsamer Teil des Generators",
        "generator_constant": "Generator, fester Prompt",
        "generator_wrong": "Generator, falsche Prompts",
        "generator_shuffled": "Generator, vertauschte Wörter",
        "generator": "Generator, richtige Prompts",
        "generator_refined_15": "Verfeinert, 15 Schritte",
        "generator_refined_30": "Verfeinert, 30 Schritte",
        "generator_refined": "Generator, verfeinert",
        "scratch_refined_15": "Von Null, 15 Schritte",
        "scratch_refined_30": "Von Null, 30 Schritte",
        "scratch_refined": "Von Null verfeinert",
        "labelled_5": "Eigene LoRA, 5 Schritte",
        "labelled_10": "Eigene LoRA, 10 Schritte",
        "labelled_20": "Eigene LoRA, 20 Schritte",
        "labelled_40": "Eigene LoRA, 40 Schritte",
        "oracle_lora": "Eigene LoRA, mit Labels trainiert",
    }
    REPORT_MODES: Mapping[str, tuple[str, str]] = {
        "bare": ("Nackt", "nur die Eingabe wird gesendet: „The film was a delight.“"),
        "full": ("Voll", "die Anweisung wird mitgesendet"),
    }
    REPORT_INTERVAL = "{label}: {value}, 95-%-Intervall {low} bis {high}"
    REPORT_PLOT = "Vergleichswerte, Gegenproben und eine Obergrenze"
    REPORT_SECONDS = "Was mehr Sekunden bringen"
    REPORT_SECONDS_MORE = (
        "Wertung bei nackten Eingaben über den Sekunden des Trainings, auf einem Kern. Verfeinern "
        "hat die Prompts des Adapters und keine Labels; seine ersten Sekunden gelten der Frage an "
        "den Lehrer, die Basis mit Anweisung. Von Grund auf beginnt es bei einer leeren LoRA."
    )
    REPORT_SECONDS_EQUAL = (
        "Eine LoRA auf den Labels derselben Prompts erreicht so viel wie der Adapter nach "
        "{steps:d} Schritten, die {times:.0f}-mal so lange dauern, wie ihn zu erzeugen."
    )
    REPORT_SECONDS_WAYS: Mapping[str, str] = {
        "generator": "Verfeinert",
        "scratch": "Von Grund auf",
        "labels": "Auf Labels",
        "teacher": "Lehrer",
    }
    REPORT_GAP = "Abstand von Basis zu eigener LoRA, geschlossen zu"
    REPORT_CATEGORIES, REPORT_CATEGORIES_MORE = "Nach Art der Aufgabe", "Wertung"
    REPORT_CATEGORIES_OF = "{value}, LoRA {ceiling}"
    REPORT_CATEGORIES_DIAMOND = "Raute: eigene LoRA"
    REPORT_FAILURES, REPORT_FAILURES_MORE = "Wo es misslingt", "zufällig gezogen, nicht ausgesucht"
    REPORT_FAILURES_LEFT_OUT = "; {number} aus fremden Daten weggelassen"
    REPORT_FAILURES_ELSEWHERE = (
        "Sie stehen in dem Ordner, in den `dnd evaluate` seinen Bericht schrieb."
    )
    REPORT_NO_FAILURES = "Keine falsche Antwort wurde festgehalten."
    REPORT_ASKED, REPORT_WANTED, REPORT_GOT = "Verlangt", "Richtig", "Bekommen"
    REPORT_ALL = "Alle Zahlen"
    REPORT_COMMAND = "Erstellt mit"
    REPORT_GAIN = "Gewinn der Operation: Nat je Token, die richtige Prompts gegen andere sparen"
    REPORT_GAIN_INTERVAL = "({low:+.2f} bis {high:+.2f})"
    REPORT_COSINE = (
        "Kosinus der Gewichtsänderungen: gleiche Aufgabe <b>{same:.3f}</b>, verschiedene Aufgaben "
        "<b>{different:.3f}</b>"
    )
    REPORT_OTHER = (
        "Dieser Bericht gilt einem anderen Generator. `dnd evaluate --card` prüft den hiesigen."
    )
    REPORT_UNREADABLE = "Ein Bericht dieses Generators ist nicht lesbar: {reason}"
    REPORT_NONE = (
        "### Noch kein Bericht\nDieser Generator kam ohne Zeugnis. `dnd evaluate` prüft ihn an "
        "unbekannten Aufgaben; das Ergebnis erscheint hier."
    )
    REPORT_LOADING = (
        "### Noch nicht geladen\nDas Zeugnis erscheint, sobald der Generator geladen ist."
    )

    TAB_TRAINING = "Training"
    WATCH_RUN = "Lauf"
    WATCH_KINDS: Mapping[str, str] = {
        "generator": "Training eines Generators",
        "multi_task_lora": "Training einer LoRA für alle Aufgaben",
        "collection": "Sammlung von LoRA-Checkpoints",
        "unknown": "Training",
    }
    WATCH_NO_RECIPE = "im Ordner fehlt recipe.json; die Einstellungen sind also unbekannt"
    WATCH_STATES: Mapping[str, tuple[str, str]] = {
        "starting": (
            "Beginnt",
            "Noch ist kein Schritt geschrieben; die Modelle zu laden und die Prompts zu lesen kann "
            "Minuten dauern. Letzte Änderung vor {ago}.",
        ),
        "running": ("Läuft", "Letzte Änderung vor {ago}."),
        "still": (
            "Bewegt sich nicht",
            "Seit {ago} hat sich nichts geändert. Entweder wurde der Lauf angehalten, dann setzt "
            "--resume ihn fort, oder dieser Schritt dauert ungewöhnlich lange.",
        ),
        "finished": ("Fertig", "Letzte Änderung {day}."),
    }
    WATCH_EARLY = "Vorzeitig beendet: Validierungen brachten nichts Besseres."
    WATCH_DONE = ("Schritte", "LoRAs")
    WATCH_FACTS: Mapping[str, str] = {
        "left": "Restzeit",
        "pace": "Je Schritt, mit Validierungen",
        "tokens": "Token je Sekunde",
    }
    WATCH_OF = "{done} von {total}"
    WATCH_ABOUT = "etwa {duration}"
    WATCH_COLLAPSED_TITLE = "Kollaps."
    WATCH_COLLAPSED = (
        "In Schritt {step} gleichen sich die Adapter verschiedener Aufgaben, die Prompts sind also "
        "ohne Wirkung. Den Lauf anhalten; erst ansehen, was der Encoder aus den Prompts macht, "
        "dann die Lernraten."
    )
    WATCH_PLOTS: Mapping[str, tuple[str, str]] = {
        "loss": ("Trainingsverlust", "Nat je Token der Antwort; einzelne Schritte grau"),
        "seen": ("Validierung, Aufgaben im Training", "Nat je Token der Antwort"),
        "families": ("Validierung, unbekannte Familien", "Nat je Token der Antwort"),
        "exact": ("Genau richtige Antworten", "Anteil zurückgehaltener Antworten"),
        "share": ("Anteil zwischen Aufgaben", "an der Größe der Adapter, logarithmisch"),
        "loras": ("Jetzt im Training", "Verlust jedes Schritts, Nat je Token der Antwort"),
    }
    WATCH_LINES: Mapping[str, str] = {
        "smooth": "geglättet",
        "right": "richtige Prompts",
        "wrong": "falsche Prompts",
        "seen": "im Training",
        "families": "unbekannte",
        "limit": "Kollaps darunter",
    }
    WATCH_MARKS = (
        "Dünne Linien ohne Marken: einige Aufgaben, die zwischen Validierungen gemessen werden."
    )
    WATCH_TOLD = "{label}: {first} in Schritt {begin}, {last} in Schritt {end}"
    WATCH_LATER = "Die erste Validierung kommt in Schritt {step}."
    WATCH_LATER_UNKNOWN = "Noch keine Validierung."
    WATCH_NOW = "Wo der Lauf steht"
    WATCH_COLUMNS = ("Was, und wie es in einem gesunden Lauf aussieht", "Jetzt", "Schritt")
    WATCH_NUMBERS: Mapping[str, tuple[str, str]] = {
        "smooth_loss": (
            "Trainingsverlust, geglättet",
            "Fällt erst schnell, dann langsam. Ebenso glatt fällt er, wenn die Prompts ohne "
            "Wirkung sind, also weiterlesen.",
        ),
        "validation_loss": (
            "Verlust der Validierung, richtige Prompts",
            "Zurückgehaltene Beispiele der Aufgaben im Training. Fällt mit dem Trainingsverlust; "
            "steigt er, lernt der Lauf auswendig.",
        ),
        "validation_loss_wrong_prompts": (
            "Verlust der Validierung, falsche Prompts",
            "Dieselben Beispiele mit Adaptern aus Prompts einer anderen Familie. Bleibt deutlich "
            "über der Zeile davor.",
        ),
        "validation_wrong_prompt_gap": (
            "Von richtigen Prompts gespart",
            "Nat je Token. Über 0 und wachsend; nahe 0 sind die Prompts ohne Wirkung.",
        ),
        "probe_wrong_prompt_gap": (
            "Von richtigen Prompts gespart, wenige Aufgaben",
            "Dasselbe an wenigen Aufgaben, die öfter gemessen werden; dort zeigt es sich zuerst.",
        ),
        "validation_exact": (
            "Genau richtige Antworten",
            "Anteil, der in jedem Token stimmt. Steigt spät, von 0 aus.",
        ),
        "between_task_share": (
            "Anteil zwischen Aufgaben",
            "Wie viel an den Adaptern von Aufgabe zu Aufgabe verschieden ist. Nach dem Anlauf über "
            "{least}, am Ende eines langen Laufs über {late}; unter {least} ist der Lauf "
            "kollabiert.",
        ),
        "delta_norm": (
            "Größe der Gewichtsänderung, ‖ΔW‖",
            "Wächst und flacht dann ab. Schießt sie hoch, sind die Lernraten zu groß.",
        ),
        "families_loss": (
            "Unbekannte Familien, richtige Prompts",
            "Aufgaben aus Familien, die das Training nie sieht. Fällt später und weniger.",
        ),
        "families_wrong_prompt_gap": (
            "Unbekannte Familien, von richtigen Prompts gespart",
            "Über 0: Der Generator hat gelernt, Prompts zu lesen, nicht nur seine Aufgaben.",
        ),
        "families_exact": (
            "Unbekannte Familien, genau richtig",
            "Lange nahe 0; die schwerste Zahl hier.",
        ),
    }
    WATCH_ALL = "Alle Zahlen"
    WATCH_NOTHING = "Noch wurde nichts gemessen."
    WATCH_LORAS = ("Verlust vorher und nachher", "Nat je Token, zurückgehaltene Beispiele")
    WATCH_LORAS_HEALTHY = (
        "Ring: die Basis. Punkt: mit der LoRA der Aufgabe, nach ihrem letzten Schritt. Bleibt ein "
        "Punkt bei seinem Ring, wurde nichts gelernt: zu wenige Schritte, oder Labels, die sich "
        "nicht lernen lassen."
    )
    WATCH_FELL = "{after:.2f}, war {before:.2f}"
    WATCH_MORE = "{number} weitere unter Alle Zahlen."
    WATCH_LEFT_OUT = "Ausgelassen"
    WATCH_UNREADABLE = "Der Lauf ist nicht lesbar."

    KEYS_OPEN = "Tastenkürzel"
    KEYS_CLOSE = "Schließen"
    KEYS_ON = "Einzelne Tasten sind an"
    KEYS_ON_MORE = "Beim Tippen ruhen sie. Esc geht immer."
    KEYS_TITLE = "Taste: {key}"
    KEYS_GROUPS: Mapping[str, str] = {
        "make": "Adapter erzeugen",
        "card": "Auf einer Karte der Ablage",
        "ask": "Fragen und vergleichen",
        "page": "Überall",
    }
    KEYS_DO: Mapping[str, str] = {
        "help": "Diese Liste zeigen",
        "stop": "Anhalten, was läuft, oder das Fragefeld verlassen",
        "canvas": "Zu den Prompts",
        "synthesize": "Adapter erzeugen",
        "take": "Behalten oder exportieren öffnen oder schließen",
        "refine": "Verfeinern öffnen oder schließen",
        "question": "Zur Frage",
        "send": "Die Frage senden, in ihrem Feld",
        "newline": "Neue Zeile in der Frage",
        "again": "Noch einmal fragen",
        "edit": "Die letzte Frage ändern",
        "differences": "Unterschiede zeigen",
        "blind": "Blind an oder aus",
        "vote_a": "A ist besser",
        "vote_b": "B ist besser",
        "vote_tie": "Gleich gut",
        "vote_bad": "Beide schlecht",
        "card_sides": "In die Gruppe daneben",
        "card_order": "Nach oben oder unten",
        "card_remove": "Entfernen",
    }
    KEY_NAMES: Mapping[str, str] = {
        "Escape": "Esc",
        "Enter": "Eingabe",
        "Shift+Enter": "Umschalt Eingabe",
        "Delete": "Entf",
    }

    def step(self, detail: str) -> str:
        """Translate what the engine tells of a step; what is not known here is left out."""
        for pattern, words in _STEPS.items():
            if found := re.fullmatch(pattern, detail):
                return words.format(*map(self._decimals, found.groups()), **found.groupdict())
        return ""

    @staticmethod
    def _decimals(digits: str) -> str:
        return digits.replace(".", ",")


_STEPS = {
    r"“(?P<said>.*)” to (\d+) of (\d+) prompts": "„{said}“ auf {1} von {2} Prompts",
    r"“(?P<said>.*)” to (\d+) of (\d+) prompts, (\d+) different answers": (
        "„{said}“ auf {1} von {2} Prompts, {3} verschiedene Antworten"
    ),
    r"Loss ([\d.]+)": "Verlust {}",
    r"Loss ([\d.]+), (\d+) s left": "Verlust {}, noch {} s",
    r"On (\d+) prompts": "an {} Prompts",
    r"([\d.]+) of ([\d.]+) MB": "{} von {} MB",
}
