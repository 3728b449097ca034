//! What cannot be used is refused: a message that names it, exit code 2, nothing written.

use super::*;

#[test]
fn tables_that_cannot_be_read_or_fitted() {
    let folder = tempfile::tempdir().unwrap();
    let head = "params,visual_tokens,score\n";
    let rows = "1,1,0.5\n1,4,0.6\n1,16,0.7\n";
    for (name, content, wanted) in [
        ("empty.csv", String::new(), "empty.csv: empty; a table has a header line"),
        ("one.csv", format!("{head}{rows}1,64,0.8\n"), "column \"params\" has one level only (1)"),
        ("nan.csv", format!("{head}{rows}2,1,nan\n"), "line 5, column \"score\": \"nan\" is not finite"),
        ("negative.csv", "params,visual_tokens,error\n1,1,-0.5\n".into(), "\"-0.5\" is not in 0…1"),
        ("percent.csv", format!("{head}1,1,54.2\n"), "(in percent? divide by 100)"),
        ("zero.csv", format!("{head}1,0,0.5\n"), "column \"visual_tokens\": \"0\" must be above 0"),
        ("column.csv", "n,visual_tokens,score\n1,1,0.5\n".into(), "no column \"params\" for x1"),
        ("binary.csv", "params,visual_tokens,score\n1,1\u{0}".into(), "binary.csv: line 2"),
    ] {
        let (table, out) = (folder.path().join(name), folder.path().join("law.json"));
        std::fs::write(&table, content).unwrap();
        let message = refuses(&[
            "fit",
            text(&table),
            "--out",
            text(&out),
            "--plot",
            text(&folder.path().join("p.svg")),
        ]);
        assert!(message.contains(wanted), "{message} lacks {wanted}");
        std::fs::remove_file(&table).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{name} left something behind");
    }
    let absent = folder.path().join("absent.csv");
    assert!(refuses(&["fit", text(&absent)]).contains("absent.csv: No such file"));
    assert!(refuses(&["fit", text(folder.path())]).contains("Is a directory"));
}

#[test]
fn a_huge_file_is_refused_without_reading_it_all() {
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("huge.csv");
    // A sparse terabyte: reading it all would take minutes and the memory of a large machine.
    std::fs::File::create(&table).unwrap().set_len(1 << 40).unwrap();
    assert!(refuses(&["fit", text(&table)]).contains("huge.csv: more than 67108864 bytes"));
    assert!(
        refuses(&["plan", "--law", text(&table), "--budget", "2TFLOP"]).contains("a law file has at most")
    );
}

#[test]
fn outputs_that_cannot_be_written_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let law = folder.path().join("law.json");
    let nowhere = folder.path().join("absent").join("p.svg");
    let message = refuses(&["fit", "--bootstrap", "0", "--out", text(&law), "--plot", text(&nowhere)]);
    assert!(message.contains("cannot write") && message.contains("there is no folder"), "{message}");
    assert!(refuses(&["fit", "--bootstrap", "0", "--out", text(folder.path())]).contains("it is a folder"));
    assert!(
        refuses(&["fit", "--out", text(&law), "--plot", "p.pdf"]).contains("p.pdf: a figure is written as")
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn options_that_contradict_or_are_out_of_range() {
    for (arguments, wanted) in [
        (&["fit", "--delta", "0.1"][..], "--delta belongs to --objective huber-log"),
        (&["fit", "--objective", "huber-log", "--delta", "0"], "delta = 0: a finite number above 0"),
        (&["fit", "--floor=-1"], "floor = -1: free, or a finite number of 0 or more"),
        (&["fit", "--floor", "some"], "`free` or a number is needed"),
        (&["fit", "--scale1", "0"], "scale1 = 0"),
        (&["fit", "--tokens", "total"], "--tokens total needs --text-tokens"),
        (&["fit", "--text-tokens", "5"], "only with --tokens total"),
        (&["fit", "--bootstrap", "99999999"], "bootstrap = 99999999: 1 to 1000000"),
        (&["fit", "--max-exponent", "0"], "largest exponent = 0"),
        (&["fit", "--resample", "clusters"], "names no run"),
        (&["fit", "--law", "cubic"], "possible values: product, sum, auto"),
        (&["plan", "--budget", "20GFLOP"], "nothing fits 20 GFLOP: the least is"),
        (&["plan", "--budget", "3 apples"], "FLOP, kFLOP"),
        (&["plan", "--budget", "1s", "--cost", "paper"], "needs the full cost"),
        (&["plan", "--budget", "2TFLOP", "--tower", "clip"], "unknown tower `clip`; known: clip-l-14-336"),
        (&["plan", "--budget", "2TFLOP", "--compressor", "quec"], "did you mean `quecc`?"),
        (&["plan", "--budget", "2TFLOP", "--family", "gpt"], "unknown family \"gpt\""),
        (&["plan", "--budget", "2TFLOP", "--flop-rate", "5GB", "--bandwidth", "1GB"], "FLOP/s are needed"),
        (&["plan", "--budget", "2TFLOP", "--law", REASONING], "not JSON"),
        (&["frontier", "--by", "time", "--cost", "paper"], "--by time needs --cost full"),
    ] {
        let message = refuses(arguments);
        assert!(message.contains(wanted), "{arguments:?}: {message} lacks {wanted}");
    }
}

#[test]
fn law_files_that_no_fit_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let law = folder.path().join("law.json");
    let sound = serde_json::json!({
        "task": null, "source": "test", "coefficients": {"A": 0.6, "alpha": 0.1, "beta": 0.02, "D": 0.0},
        "units": {"scale1": 1e9, "scale2": 1.0, "tokens": {"convention": "visual"}},
        "measured": {"x1": [5e8, 7e9], "x2": [1.0, 576.0]},
    });
    let plan = ["plan", "--law", text(&law), "--budget", "2TFLOP"];
    std::fs::write(&law, sound.to_string()).unwrap();
    succeeds(&plan);
    for (pointer, value) in [("/coefficients/A", -1.0), ("/units/scale1", 0.0), ("/measured/x2/0", -5.0)] {
        let mut broken = sound.clone();
        *broken.pointer_mut(pointer).unwrap() = value.into();
        std::fs::write(&law, broken.to_string()).unwrap();
        assert!(refuses(&plan).contains("is negative, zero or not finite"), "{pointer}");
    }
    std::fs::write(&law, "{\"answer\": 42}").unwrap();
    assert!(refuses(&plan).contains("not a law; `foveate fit --out` writes one"));
}

#[cfg(unix)]
#[test]
fn pipes_links_and_inputs_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let fit = |more: &[&str]| {
        let mut arguments = vec!["fit", "--bootstrap", "0"];
        arguments.extend(more);
        refuses(&arguments)
    };
    assert!(Command::new("mkfifo").arg(path("pipe.json")).status().unwrap().success());
    let message = fit(&["--out", text(&path("pipe.json"))]);
    assert!(message.contains("it is not a regular file"), "{message}");

    // A link stays one, and its target gets the law.
    std::fs::write(path("target.json"), "old").unwrap();
    std::os::unix::fs::symlink(path("target.json"), path("link.json")).unwrap();
    succeeds(&["fit", "--bootstrap", "0", "--out", text(&path("link.json"))]);
    assert!(std::fs::symlink_metadata(path("link.json")).unwrap().is_symlink());
    assert!(std::fs::read_to_string(path("target.json")).unwrap().contains("coefficients"));

    let twice = text(&path("both.svg")).to_owned();
    let message = fit(&["--plot", &twice, "--plot-profile", &format!("{}/./both.svg", text(folder.path()))]);
    assert!(message.contains("another output of this run"), "{message}");
    assert!(!path("both.svg").exists());

    std::fs::copy(REASONING, path("rows.csv")).unwrap();
    let rows = text(&path("rows.csv")).to_owned();
    let message = refuses(&["fit", &rows, "--bootstrap", "0", "--out", &rows]);
    assert!(message.contains("it is what this run reads"), "{message}");
    assert_eq!(std::fs::read(REASONING).unwrap(), std::fs::read(&rows).unwrap());
}
