//! The table of cases. A case's name says what the plugin does, and its expected outcome what the host makes of that.

use std::time::Duration;

use crate::case::Expected::{
    AllDeadLettered, AllDeadLetteredFrom, NotLoaded, NotOpened, RowDeadLettered, Unaffected, WrongAnswers,
};
use crate::case::Source::{Bytes, Config, EveryCall, OnPoison};
use crate::case::{Case, Expected};
use crate::harness::Place::{self, Classifier, Parser, Scorer, Transform};
use crate::hostile::importing;
use crate::raw::{Raw, billion_laughs, deep_type, doubled_types, nested};

const TRAP: &str = "plugin-trap";
const DEADLINE: &str = "plugin-deadline";
const MEMORY: &str = "plugin-memory";
const ANSWER: &str = "plugin-answer";
const ERROR: &str = "plugin-error";

const EVERYWHERE: [Place; 4] = [Parser, Classifier, Transform, Scorer];

pub fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = EVERYWHERE.into_iter().flat_map(anywhere).collect();
    cases.extend(answers());
    cases.extend(over_time());
    cases.extend(abi_violations());
    cases.extend(modules());
    cases.extend(imports());
    cases.extend(near_misses());
    cases.extend(files());
    cases
}

/// Misbehaviour that any stage's plugin is capable of.
fn anywhere(place: Place) -> Vec<Case> {
    let case = |name, source, expected| Case::new(place, name, source, expected);
    vec![
        case("loops", OnPoison("loop"), RowDeadLettered(DEADLINE)),
        case("is_slow_but_in_time", OnPoison("slow"), Unaffected).deadline(Duration::from_secs(3)),
        case("allocates_all_memory", OnPoison("grow"), RowDeadLettered(MEMORY))
            .memory(8 << 20)
            .deadline(Duration::from_secs(30)),
        case("grows_to_its_limit_and_goes_on", OnPoison("grow-pages"), Unaffected),
        case("recurses_without_end", OnPoison("recurse"), RowDeadLettered(TRAP)).deadline(Duration::from_secs(30)),
        case("traps", OnPoison("trap"), RowDeadLettered(TRAP)),
        case("panics", OnPoison("panic"), RowDeadLettered(TRAP)),
        case("aborts", OnPoison("abort"), RowDeadLettered(TRAP)),
        case("exits", OnPoison("exit"), RowDeadLettered(TRAP)),
        case("exits_in_peace", OnPoison("exit-in-peace"), RowDeadLettered(TRAP)),
        case("reads_where_no_memory_is", OnPoison("wild-pointer"), RowDeadLettered(TRAP)),
        case("sleeps", OnPoison("sleep"), RowDeadLettered(TRAP)),
        case("prints_much", OnPoison("print"), Unaffected).deadline(Duration::from_secs(30)),
        case("prints_without_end", OnPoison("print-without-end"), RowDeadLettered(DEADLINE)),
        case("asks_for_files_environment_and_threads", OnPoison("look-around"), Unaffected),
        case("fails_by_its_own_word", OnPoison("error"), RowDeadLettered(ERROR)),
        case("fails_in_every_call", EveryCall("trap"), AllDeadLettered(TRAP)),
        case("loops_in_open", EveryCall("loop-in-open"), NotOpened("still running when its time was up")),
        case("traps_in_open", EveryCall("trap-in-open"), NotOpened("failed in open")),
        case("panics_in_open", EveryCall("panic-in-open"), NotOpened("failed in open")),
        case("exits_in_open", EveryCall("exit-in-open"), NotOpened("failed in open")),
        case("allocates_all_memory_in_open", EveryCall("grow-in-open"), NotOpened("of memory")),
        case("refuses_to_open", EveryCall("error-in-open"), NotOpened("refuses to open")),
        case("knows_nothing_of_its_configuration", Config("{}"), NotOpened("refuses to open")),
    ]
}

/// What a record comes to is more than it may.
const TOO_MUCH: Expected = RowDeadLettered("too-much-output");

/// Answers that break the rules of their interface, or ask for more than they hold.
fn answers() -> Vec<Case> {
    // The deadline is long, since copying a large answer takes its time on a busy machine, and the rules are tested here.
    let row = |place, name, what| {
        Case::new(place, name, OnPoison(what), RowDeadLettered(ANSWER)).deadline(Duration::from_secs(30))
    };
    let open = |place, name, what, why| Case::new(place, name, EveryCall(what), NotOpened(why));
    vec![
        row(Parser, "answers_a_cell_too_few", "wrong-count"),
        row(Parser, "answers_a_cell_too_many", "more-rows"),
        row(Parser, "answers_no_rows", "no-rows"),
        row(Parser, "answers_other_columns_than_open_named", "wrong-columns"),
        row(Parser, "rejects_a_row_that_is_not_there", "bad-row"),
        row(Parser, "rejects_with_a_code_that_is_no_label", "bad-code"),
        row(Parser, "rejects_a_row_twice", "twice-rejected"),
        row(Parser, "rejects_with_a_message_of_a_mebibyte", "huge-message"),
        row(Parser, "drops_rows_that_are_not_there", "bad-dropped"),
        row(Parser, "answers_32_mebibytes", "huge-answer"),
        Case::new(Parser, "asks_about_a_row_that_is_not_there", OnPoison("unknown-row"), RowDeadLettered(TRAP)),
        Case::new(Parser, "floods_the_log", OnPoison("log"), Unaffected).deadline(Duration::from_secs(30)),
        open(Parser, "names_a_column_in_a_mebibyte", "long-names", "at most 256"),
        open(Parser, "names_no_column", "no-columns", "names no column"),
        open(Parser, "names_a_column_twice", "same-columns", "twice"),
        row(Classifier, "answers_a_label_too_few", "wrong-count"),
        row(Classifier, "answers_a_label_too_many", "more-labels"),
        row(Classifier, "answers_no_rows", "no-rows"),
        row(Classifier, "answers_a_score_too_few", "wrong-scores"),
        row(Classifier, "scores_nan", "nan"),
        row(Classifier, "scores_infinity", "infinite"),
        row(Classifier, "labels_beyond_its_classes", "label-range"),
        row(Classifier, "rejects_a_row_that_is_not_there", "bad-row"),
        row(Classifier, "rejects_with_a_code_that_is_no_label", "bad-code"),
        row(Classifier, "rejects_a_row_twice", "twice-rejected"),
        row(Classifier, "rejects_with_a_message_of_a_mebibyte", "huge-message"),
        row(Classifier, "answers_32_mebibytes", "huge-answer"),
        Case::new(Classifier, "floods_the_log", OnPoison("log"), Unaffected).deadline(Duration::from_secs(30)),
        open(Classifier, "names_a_class_in_a_mebibyte", "long-names", "at most 256"),
        open(Classifier, "names_one_class", "one-class", "at least two are needed"),
        open(Classifier, "names_a_class_twice", "same-classes", "twice"),
        row(Transform, "answers_offsets_that_decrease", "offsets-decrease"),
        row(Transform, "answers_offsets_beyond_its_payload", "offsets-overrun"),
        row(Transform, "answers_offsets_that_start_late", "offsets-start-late"),
        row(Transform, "answers_an_offset_too_few", "few-offsets"),
        row(Transform, "answers_no_offsets", "no-offsets"),
        row(Transform, "emits_for_a_row_that_is_not_there", "source-row"),
        row(Transform, "emits_to_an_output_that_it_did_not_name", "output-range"),
        row(Transform, "emits_backwards", "backwards"),
        row(Transform, "emits_and_rejects_a_row", "emitted-and-rejected"),
        row(Transform, "emits_and_drops_a_row", "emitted-and-dropped"),
        row(Transform, "rejects_with_a_code_that_is_no_label", "bad-code"),
        row(Transform, "answers_32_mebibytes", "huge-answer"),
        Case::new(Transform, "asks_about_a_row_that_is_not_there", OnPoison("unknown-row"), RowDeadLettered(TRAP)),
        Case::new(Transform, "emits_300_000_records_with_a_key_of_10_kilobytes", OnPoison("amplify"), TOO_MUCH)
            .deadline(Duration::from_secs(30)),
        Case::new(Transform, "emits_two_thousand_records_with_sixty_headers", OnPoison("many-headers"), TOO_MUCH)
            .deadline(Duration::from_secs(30)),
        row(Transform, "adds_100_000_headers", "header-flood"),
        row(Transform, "adds_a_header_with_a_name_of_a_mebibyte", "long-header"),
        open(Transform, "names_an_output_in_a_mebibyte", "long-names", "at most 256"),
        open(Transform, "names_no_output", "no-outputs", "names no output"),
        open(Transform, "names_an_output_twice", "same-outputs", "twice"),
        row(Scorer, "judges_a_row_that_is_not_there", "bad-row"),
        row(Scorer, "judges_a_row_twice", "twice-judged"),
        row(Scorer, "answers_a_loss_of_nan", "nan"),
        row(Scorer, "answers_an_infinite_loss", "infinite"),
        row(Scorer, "weighs_less_than_nothing", "negative-weight"),
        row(Scorer, "gives_a_reason_of_a_mebibyte", "huge-reason"),
        row(Scorer, "judges_far_more_than_it_was_asked", "huge-answer"),
    ]
}

/// Misbehaviour that shows only after many calls.
fn over_time() -> Vec<Case> {
    const LATE: &str = r#"{"do":"trap","after_rows":5000}"#;
    // A plugin's state goes with its store, so one that traps for ever must go by the records' offsets.
    const FOR_EVER: &str = r#"{"do":"trap","after_offset":5000}"#;
    const PANICS_FOR_EVER: &str = r#"{"do":"panic","after_offset":130}"#;
    let leaks =
        |place| Case::new(place, "leaks_a_mebibyte_a_call", EveryCall("leak"), Unaffected).memory(8 << 20).batches(40);
    vec![
        Case::new(Parser, "traps_whenever_it_has_seen_5000_rows", Config(LATE), Unaffected).batches(160),
        Case::new(Classifier, "traps_whenever_it_has_seen_5000_rows", Config(LATE), Unaffected).batches(160),
        Case::new(Transform, "traps_whenever_it_has_seen_5000_rows", Config(LATE), Unaffected).batches(160),
        Case::new(Parser, "traps_for_ever_from_record_5000_on", Config(FOR_EVER), AllDeadLetteredFrom(5_000, TRAP))
            .batches(84),
        Case::new(
            Parser,
            "panics_for_ever_from_record_130_on",
            Config(PANICS_FOR_EVER),
            AllDeadLetteredFrom(130, TRAP),
        )
        .batches(4),
        leaks(Parser),
        leaks(Classifier),
        leaks(Transform),
        leaks(Scorer),
        Case::new(Classifier, "keeps_state_between_calls_and_lies", EveryCall("lies"), WrongAnswers),
    ]
}

fn raw(name: &'static str, component: Raw, expected: Expected) -> Case {
    bytes(name, expected, move || component.encode())
}

fn bytes(name: &'static str, expected: Expected, bytes: impl Fn() -> Vec<u8> + Send + 'static) -> Case {
    Case::new(Classifier, name, Bytes(Box::new(bytes)), expected)
}

/// Values that are laid out against the canonical ABI.
fn abi_violations() -> Vec<Case> {
    let on_poison = |name, on_poison, expected| raw(name, Raw { on_poison, ..Raw::default() }, expected);
    let realloc = |name, realloc, expected| raw(name, Raw { realloc, ..Raw::default() }, expected);
    let lift = |name, lift, fields: &str, expected| {
        raw(name, Raw { lift, fields: fields.to_owned(), ..Raw::default() }, expected)
    };
    // Short, where every row waits for its deadline.
    const EACH_ROW: Duration = Duration::from_millis(50);
    const AFTER: &str = r#"(post-return (func $main "after"))"#;
    vec![
        raw("is_written_by_hand_and_behaves", Raw::default(), Unaffected),
        on_poison(
            "claims_a_gibibyte_of_scores",
            "(i32.store offset=16 (local.get $answer) (i32.const 0x10000000))",
            RowDeadLettered(TRAP),
        ),
        on_poison(
            "claims_a_list_whose_size_overflows",
            "(i32.store offset=16 (local.get $answer) (i32.const 0xffffffff))",
            RowDeadLettered(TRAP),
        ),
        on_poison(
            "claims_labels_beyond_its_memory",
            "(i32.store offset=4 (local.get $answer) (i32.const 0xfffffff0))",
            RowDeadLettered(TRAP),
        ),
        on_poison(
            "claims_labels_at_an_odd_address",
            "(i32.store offset=4 (local.get $answer) (i32.const 8193))",
            RowDeadLettered(TRAP),
        ),
        on_poison("answers_beyond_its_memory", "(local.set $answer (i32.const 0xffffff00))", RowDeadLettered(TRAP)),
        on_poison("answers_at_an_odd_address", "(local.set $answer (i32.const 257))", RowDeadLettered(TRAP)),
        on_poison(
            "answers_neither_ok_nor_error",
            "(i32.store8 (local.get $answer) (i32.const 7))",
            RowDeadLettered(TRAP),
        ),
        on_poison(
            "errs_in_no_utf8",
            "(i32.store8 (local.get $answer) (i32.const 1))
             (i32.store8 (i32.const 512) (i32.const 0xff))
             (i32.store offset=4 (local.get $answer) (i32.const 512))
             (i32.store offset=8 (local.get $answer) (i32.const 1))",
            RowDeadLettered(TRAP),
        ),
        on_poison(
            "errs_with_a_sentence_of_a_mebibyte",
            "(i32.store8 (local.get $answer) (i32.const 1))
             (memory.fill (i32.const 0) (i32.const 33) (i32.const 0x100000))
             (local.set $answer (i32.const 256))
             (i32.store (local.get $answer) (i32.const 1))
             (i32.store offset=4 (local.get $answer) (i32.const 512))
             (i32.store offset=8 (local.get $answer) (i32.const 0xf0000))",
            RowDeadLettered(ERROR),
        ),
        on_poison(
            "rejects_in_no_utf8",
            "(i32.store8 (i32.const 512) (i32.const 0xff))
             (i32.store (i32.const 516) (i32.const 0))
             (i32.store (i32.const 520) (i32.const 64)) (i32.store (i32.const 524) (i32.const 1))
             (i32.store (i32.const 528) (i32.const 512)) (i32.store (i32.const 532) (i32.const 1))
             (i32.store offset=20 (local.get $answer) (i32.const 516))
             (i32.store offset=24 (local.get $answer) (i32.const 1))",
            RowDeadLettered(TRAP),
        ),
        // Three million rejections of 20 bytes each, all the same zeros: what is small in the guest is large here.
        on_poison(
            "rejects_three_million_times",
            "(drop (memory.grow (i32.const 960)))
             (i32.store offset=20 (local.get $answer) (i32.const 0x100000))
             (i32.store offset=24 (local.get $answer) (i32.const 3000000))",
            RowDeadLettered(TRAP),
        ),
        // A thousand rejections whose messages are the same 16 MiB.
        on_poison(
            "rejects_with_16_gibibytes_that_overlap",
            "(drop (memory.grow (i32.const 512)))
             (block $done (loop $next
               (br_if $done (i32.ge_u (local.get $at) (i32.const 20000)))
               (i32.store offset=0x80000 (local.get $at) (i32.const 0))
               (i32.store offset=0x80004 (local.get $at) (i32.const 64))
               (i32.store offset=0x80008 (local.get $at) (i32.const 1))
               (i32.store offset=0x8000c (local.get $at) (i32.const 0x100000))
               (i32.store offset=0x80010 (local.get $at) (i32.const 0x1000000))
               (local.set $at (i32.add (local.get $at) (i32.const 20)))
               (br $next)))
             (i32.store offset=20 (local.get $answer) (i32.const 0x80000))
             (i32.store offset=24 (local.get $answer) (i32.const 1000))",
            RowDeadLettered(TRAP),
        ),
        on_poison(
            "divides_by_zero",
            "(drop (i32.div_u (i32.const 1) (i32.sub (local.get $at) (local.get $at))))",
            RowDeadLettered(TRAP),
        ),
        on_poison("converts_nan_to_a_number", "(drop (i32.trunc_f32_s (f32.const nan)))", RowDeadLettered(TRAP)),
        on_poison("asks_for_4_gibibytes_and_goes_on", "(drop (memory.grow (i32.const 65000)))", Unaffected),
        on_poison(
            "overwrites_all_of_its_memory",
            "(memory.fill (i32.const 0) (i32.const 0xff) (i32.const 0x100000)) (local.set $answer (i32.const 0))",
            RowDeadLettered(TRAP),
        ),
        realloc("allocates_beyond_its_memory", "(i32.const 0xfffffff0)", NotOpened("failed in open")),
        realloc("allocates_at_odd_addresses", "(i32.const 70001)", AllDeadLettered(TRAP)),
        realloc("allocates_all_in_one_place", "(i32.const 65536)", Unaffected),
        realloc("traps_where_it_should_allocate", "(unreachable)", NotOpened("failed in open")),
        realloc(
            "loops_where_it_should_allocate",
            "(loop $for_ever (br $for_ever)) (unreachable)",
            NotOpened("time was up"),
        ),
        realloc(
            "loops_where_it_should_allocate_but_not_in_open",
            "(if (i32.gt_u (local.get $size) (i32.const 2)) (then (loop $for_ever (br $for_ever)))) (i32.const 65536)",
            AllDeadLettered(DEADLINE),
        )
        .deadline(EACH_ROW)
        .batches(1),
        lift(
            "traps_after_it_returned",
            AFTER,
            r#"(func (export "after") (param i32) (unreachable))"#,
            AllDeadLettered(TRAP),
        ),
        lift(
            "loops_after_it_returned",
            AFTER,
            r#"(func (export "after") (param i32) (loop $for_ever (br $for_ever)))"#,
            AllDeadLettered(DEADLINE),
        )
        .deadline(EACH_ROW)
        .batches(1),
        raw(
            "opens_with_no_utf8",
            Raw { open: "(i32.store8 (i32.const 64) (i32.const 0xff)) (i32.const 128)", ..Raw::default() },
            NotOpened("failed in open"),
        ),
        raw(
            "opens_with_a_billion_columns",
            Raw { open: "(i32.store (i32.const 136) (i32.const 1000000000)) (i32.const 128)", ..Raw::default() },
            NotOpened("failed in open"),
        ),
        // 3,000,000 columns of 20 bytes: all zeros, so they share the empty name.
        raw(
            "opens_with_three_million_columns",
            Raw {
                open: "(drop (memory.grow (i32.const 960)))
                    (i32.store (i32.const 132) (i32.const 0x100000))
                    (i32.store (i32.const 136) (i32.const 3000000)) (i32.const 128)",
                ..Raw::default()
            },
            NotOpened("failed in open"),
        ),
    ]
}

/// Modules that want more than there is, or run before they are asked.
fn modules() -> Vec<Case> {
    let fields = |name, fields: String, expected| raw(name, Raw { fields, ..Raw::default() }, expected);
    let more = |name, more: String, expected| raw(name, Raw { more, ..Raw::default() }, expected);
    let on_poison = |name, on_poison, fields: &str, expected| {
        raw(name, Raw { on_poison, fields: fields.to_owned(), ..Raw::default() }, expected)
    };
    vec![
        fields("traps_when_it_starts", "(func $begin (unreachable)) (start $begin)".into(), NotOpened("instantiated")),
        fields(
            "loops_when_it_starts",
            "(func $begin (loop $for_ever (br $for_ever))) (start $begin)".into(),
            NotOpened("instantiated"),
        ),
        fields("wants_125_mebibytes_at_once", "(memory 2000)".into(), NotOpened("instantiated")),
        fields("wants_4_gibibytes_at_once", "(memory 65536)".into(), NotOpened("instantiated")),
        fields("wants_memory_of_64_bits_of_address", "(memory i64 0x100000000)".into(), NotLoaded("exceeds the limit")),
        fields("wants_shared_memory", "(memory 1 1 shared)".into(), NotLoaded("not a valid component")),
        fields(
            "has_five_memories",
            "(memory 1) (memory 1) (memory 1) (memory 1) (memory 1)".into(),
            NotLoaded("memories"),
        ),
        fields("has_seventeen_tables", "(table 1 funcref)".repeat(17), NotLoaded("tables")),
        fields("has_a_table_of_200000", "(table 200000 funcref)".into(), NotLoaded("exceeds the limit")),
        fields("has_a_table_of_4_billion", "(table 0xffffffff funcref)".into(), NotLoaded("exceeds the limit")),
        fields(
            "has_a_function_of_two_mebibytes",
            format!("(func {})", "nop ".repeat(2 << 20)),
            NotLoaded("2097154 bytes"),
        ),
        fields(
            "has_a_function_of_20000_locals",
            format!("(func (local {}))", "i32 ".repeat(20_000)),
            NotLoaded("20000 locals"),
        ),
        fields(
            "has_a_function_of_many_locals_and_blocks",
            format!("(func (local {}) {})", "i32 ".repeat(10_000), "(block)".repeat(20_000)),
            NotLoaded("locals times blocks"),
        ),
        fields(
            "passes_a_thousand_values_to_each_of_many_calls",
            {
                let values = "i32 ".repeat(1_000);
                let calls = "call $many ".repeat(300_000);
                format!("(func $many (param {values}) (result {values}) unreachable) (func unreachable {calls})")
            },
            NotLoaded("values passed by its calls"),
        ),
        fields("has_200000_functions", "(func)".repeat(200_000), NotLoaded("has 100001 functions")),
        fields("has_200000_globals", "(global (mut v128) (v128.const i64x2 0 0))".repeat(200_000), NotLoaded("size")),
        fields(
            "lays_72_mebibytes_of_data_down",
            format!(r#"(memory $large 1200) (data (memory $large) (i32.const 0) "{}")"#, "!".repeat(72 << 20)),
            NotOpened("instantiated"),
        ),
        fields(
            "lays_data_where_no_memory_is",
            r#"(data (i32.const 0x7fffffff) "beyond")"#.into(),
            NotOpened("instantiated"),
        ),
        more(
            "makes_forty_instances",
            format!("(core module $empty) {}", "(core instance (instantiate $empty))".repeat(40)),
            Unaffected,
        ),
        more(
            "makes_5000_instances",
            format!("(core module $empty) {}", "(core instance (instantiate $empty))".repeat(5_000)),
            NotLoaded("instantiates modules 5002 times"),
        ),
        on_poison(
            "grows_its_table_to_a_billion_and_goes_on",
            "(drop (table.grow $t (ref.null func) (i32.const 1000000000)))",
            "(table $t 1 funcref)",
            Unaffected,
        ),
        on_poison(
            "grows_its_table_without_end",
            "(loop $for_ever (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then (unreachable))) (br $for_ever))",
            "(table $t 1 funcref)",
            RowDeadLettered(TRAP),
        ),
        on_poison("calls_no_function", "(call_indirect (i32.const 0))", "(table 1 funcref)", RowDeadLettered(TRAP)),
        on_poison(
            "calls_a_function_of_another_type",
            "(drop (call_indirect (result i64) (i32.const 0)))",
            "(table 1 funcref) (elem (i32.const 0) func $honest)",
            RowDeadLettered(TRAP),
        ),
        on_poison(
            "calls_itself_without_end",
            "(call $deeper)",
            "(func $deeper (call $deeper) (call $deeper))",
            RowDeadLettered(TRAP),
        ),
    ]
}

/// Imports of what the host offers, used to excess, and of what it does not offer.
fn imports() -> Vec<Case> {
    let hosted = |name, component: Raw, on_poison, expected| raw(name, Raw { on_poison, ..component }, expected);
    let random = || {
        Raw::importing(
            r#"(import "wasi:random/random@0.2.0" (instance $random
                (export "get-random-bytes" (func (param "length" u64) (result (list u8))))))"#,
            r#"$random "get-random-bytes""#,
            "(param i64 i32)",
        )
    };
    let stdout = || {
        Raw::importing(
            r#"(import "wasi:io/streams@0.2.0" (instance $streams (export "output-stream" (type (sub resource)))))
               (alias export $streams "output-stream" (type $stream))
               (import "wasi:cli/stdout@0.2.0" (instance $stdout
                 (alias outer 1 $stream (type $stream))
                 (export "output-stream" (type $own (eq $stream)))
                 (export "get-stdout" (func (result (own $own))))))"#,
            r#"$stdout "get-stdout""#,
            "(result i32)",
        )
    };
    let network = || {
        Raw::importing(
            r#"(import "wasi:sockets/instance-network@0.2.12" (instance $network
                 (export "network" (type $network (sub resource)))
                 (export "instance-network" (func (result (own $network))))))"#,
            r#"$network "instance-network""#,
            "(result i32)",
        )
    };
    let socket = || {
        Raw::importing(
            r#"(import "wasi:sockets/tcp-create-socket@0.2.9" (instance $tcp
                 (export "tcp-socket" (type $socket (sub resource)))
                 (type $family' (enum "ipv4" "ipv6"))
                 (export "ip-address-family" (type $family (eq $family')))
                 (export "create-tcp-socket" (func (param "address-family" $family) (result (result (own $socket)))))))"#,
            r#"$tcp "create-tcp-socket""#,
            "(param i32 i32)",
        )
    };
    let http = || {
        Raw::importing(
            r#"(import "wasi:http/types@0.2.10" (instance $http
                 (export "fields" (type $fields (sub resource)))
                 (export "[constructor]fields" (func (result (own $fields))))))"#,
            r#"$http "[constructor]fields""#,
            "(result i32)",
        )
    };
    let own = Raw {
        imports: "(type $own (resource (rep i32))) (core func $host (canon resource.new $own))".into(),
        host: "(param i32) (result i32)",
        ..Raw::default()
    };
    let refused = |name, interface: &'static str| bytes(name, NotLoaded(interface), move || importing(interface));
    vec![
        hosted(
            "logs_beyond_its_memory",
            Raw::logging(),
            "(call $host (i32.const 0) (i32.const 0x7fffffff) (i32.const 16))",
            RowDeadLettered(TRAP),
        ),
        hosted(
            "logs_at_a_level_that_there_is_not",
            Raw::logging(),
            "(call $host (i32.const 9) (i32.const 64) (i32.const 1))",
            RowDeadLettered(TRAP),
        ),
        hosted(
            "logs_no_utf8",
            Raw::logging(),
            "(i32.store8 (i32.const 512) (i32.const 0xff)) (call $host (i32.const 0) (i32.const 512) (i32.const 1))",
            RowDeadLettered(TRAP),
        ),
        hosted(
            "logs_a_line_of_32_mebibytes",
            Raw::logging(),
            "(drop (memory.grow (i32.const 600))) (call $host (i32.const 3) (i32.const 0x100000) (i32.const 0x2000000))",
            Unaffected,
        )
        .deadline(Duration::from_secs(30)),
        hosted(
            "logs_without_end",
            Raw::logging(),
            "(loop $for_ever (call $host (i32.const 3) (i32.const 64) (i32.const 1)) (br $for_ever))",
            RowDeadLettered(DEADLINE),
        ),
        hosted("asks_for_all_the_random_bytes", random(), "(call $host (i64.const -1) (i32.const 512))", RowDeadLettered(TRAP)),
        hosted(
            "asks_for_random_bytes_without_end",
            random(),
            "(loop $for_ever (call $host (i64.const 64) (i32.const 512)) (br $for_ever))",
            // The plugin's own memory runs out: it never frees the bytes.
            RowDeadLettered(TRAP),
        ),
        hosted(
            "hoards_the_hosts_resources",
            stdout(),
            "(loop $for_ever (drop (call $host)) (br $for_ever))",
            RowDeadLettered(TRAP),
        ),
        hosted(
            "hoards_resources_of_its_own",
            own,
            "(loop $for_ever (drop (call $host (i32.const 1))) (br $for_ever))",
            RowDeadLettered(TRAP),
        ),
        hosted("imports_sockets_and_does_not_call_them", network(), "", Unaffected),
        hosted("asks_for_the_network", network(), "(drop (call $host))", RowDeadLettered(TRAP)),
        hosted("makes_a_socket", socket(), "(call $host (i32.const 0) (i32.const 512))", RowDeadLettered(TRAP)),
        hosted("makes_an_http_request", http(), "(drop (call $host))", RowDeadLettered(TRAP)),
        refused("imports_key_values", "wasi:keyvalue/store@0.2.0"),
        refused("imports_files_of_another_wasi", "wasi:filesystem/types@0.3.0"),
        refused("imports_what_nobody_knows", "evil:net/dial"),
        refused("imports_another_version_of_ours", "sandpiper:plugin/log@0.2.0"),
        refused("imports_an_export_of_ours", "sandpiper:plugin/classifier@0.1.0"),
        bytes("imports_a_bare_function", NotLoaded("dial"), || {
            wat::parse_str(r#"(component (import "dial" (func)))"#).unwrap()
        }),
        bytes("imports_a_module", NotLoaded("payload"), || {
            wat::parse_str(r#"(component (import "payload" (core module)))"#).unwrap()
        }),
        bytes("imports_files_in_a_form_that_is_not_theirs", NotLoaded("form that this host does not offer"), || {
            let text = r#"(component (import "wasi:filesystem/preopens@0.2.0" (instance (export "get-all" (func)))))"#;
            wat::parse_str(text).unwrap()
        }),
        raw(
            "uses_what_is_not_finished_in_wasm",
            Raw { imports: "(core func (canon waitable-set.new))".into(), ..Raw::default() },
            NotLoaded("not a valid component"),
        ),
    ]
}

/// Components that would fit but for one thing.
fn near_misses() -> Vec<Case> {
    let export = |name, export: &'static str, expected| raw(name, Raw { export, ..Raw::default() }, expected);
    vec![
        export(
            "speaks_another_version",
            r#"(instance $api (export "open" (func $open)) (export "classify" (func $classify)))
               (export "sandpiper:plugin/classifier@0.2.0" (instance $api))"#,
            NotOpened("rebuild it against sandpiper:plugin@0.1.0"),
        ),
        export(
            "lacks_classify",
            r#"(instance $api (export "open" (func $open)))
               (export "sandpiper:plugin/classifier@0.1.0" (instance $api))"#,
            NotOpened("classify"),
        ),
        export(
            "lacks_open",
            r#"(instance $api (export "classify" (func $classify)))
               (export "sandpiper:plugin/classifier@0.1.0" (instance $api))"#,
            NotOpened("open"),
        ),
        export(
            "has_one_function_under_both_names",
            r#"(instance $api (export "open" (func $open)) (export "classify" (func $open)))
               (export "sandpiper:plugin/classifier@0.1.0" (instance $api))"#,
            NotOpened("type mismatch"),
        ),
        export(
            "exports_a_function_in_place_of_the_interface",
            r#"(export "sandpiper:plugin/classifier@0.1.0" (func $classify))"#,
            NotOpened("classifier"),
        ),
        export("exports_nothing_of_ours", "", NotOpened("cannot be a classifier")),
        export(
            "exports_more_than_is_asked",
            r#"(instance $api (export "open" (func $open)) (export "classify" (func $classify)) (export "more" (func $open)))
               (export "sandpiper:plugin/classifier@0.1.0" (instance $api))"#,
            Unaffected,
        ),
        bytes("is_a_parser", NotOpened("name this plugin in the stage"), || stock("csv")),
        bytes("is_empty_but_a_component", NotOpened("exports nothing"), || b"\0asm\x0d\0\x01\0".to_vec()),
    ]
}

/// Files that are no components.
fn files() -> Vec<Case> {
    const INVALID: &str = "not a valid component";
    let cut = |name, share: usize| {
        bytes(name, NotLoaded(INVALID), move || {
            let mut plugin = stock("csv");
            plugin.truncate(plugin.len() / 100 * share);
            plugin
        })
    };
    vec![
        bytes("is_an_empty_file", NotLoaded("is an empty file"), Vec::new),
        bytes("is_a_text", NotLoaded("is no WebAssembly"), || b"#!/bin/sh\nrm -rf /\n".to_vec()),
        bytes("is_three_bytes", NotLoaded("is no WebAssembly"), || b"\0as".to_vec()),
        bytes("is_a_core_module", NotLoaded("core WebAssembly module"), || wat::parse_str("(module)").unwrap()),
        bytes("is_of_an_unknown_version", NotLoaded("unknown version"), || b"\0asm\x0d\0\x02\0".to_vec()),
        bytes("is_native_code", NotLoaded("is no WebAssembly"), || {
            std::fs::read(std::env::current_exe().unwrap()).unwrap()[..1 << 20].to_vec()
        }),
        bytes("is_a_section_that_is_longer_than_its_file", NotLoaded(INVALID), || {
            b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\x0f".to_vec()
        }),
        bytes("is_nothing_but_ones", NotLoaded(INVALID), || [b"\0asm\x0d\0\x01\0".as_slice(), &[0xff; 4_096]].concat()),
        bytes("is_a_component_in_a_component_100000_deep", NotLoaded("nests components"), || nested(100_000)),
        bytes("instantiates_itself_two_to_the_30", NotLoaded("instantiates components"), || billion_laughs(30)),
        bytes("doubles_its_types_thirty_times", NotLoaded(INVALID), || doubled_types(30)),
        bytes("nests_a_type_10000_deep", NotLoaded(INVALID), || deep_type(10_000)),
        cut("is_cut_after_a_hundredth", 1),
        cut("is_cut_in_the_middle", 50),
        cut("is_cut_before_its_end", 99),
        bytes("is_twice_itself", NotLoaded(INVALID), || stock("csv").repeat(2)),
    ]
}

pub fn stock(name: &str) -> Vec<u8> {
    sandpiper_sandbox::stock::component(name).unwrap().to_vec()
}
