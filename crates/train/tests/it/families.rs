//! The guess of a question's family: fitted to a student, written beside its weights, read with them.

use foveate_data::{Question, Skill};
use foveate_model::Dtype;
use foveate_model::vlm::{FamilyHead, Vlm};
use foveate_train::encode::Encoder;
use foveate_train::families::{self, Labelled, fit};
use foveate_train::recipe::Recipe;
use foveate_train::student::{Scope, Storage, Student};

use crate::halves;

/// Questions of two kinds in the words of the student's tokenizer, some forty of each.
fn questions(first: usize) -> Vec<Question> {
    let of = |nth: usize| {
        let side = ["left", "right"][nth % 2];
        let (text, skill) = match nth % 3 {
            0 => (format!("which word is {side} of {nth}?"), Skill::Read),
            _ => (format!("which colour is {side} of {nth}?"), Skill::Attribute),
        };
        Question::new(text, "x", skill)
    };
    (first..first + 120).map(of).collect()
}

fn fitted(student: &Student, threads: usize) -> FamilyHead {
    let encoder =
        Encoder { tokenizer: &student.tokenizer, template: &student.template, end_token: student.end_token };
    let labelled = Labelled { train: questions(0), validation: questions(1000) };
    let tokens = |text: &str| encoder.question(text);
    fit(&student.vlm(&[]).unwrap(), &tokens, &labelled, 1e-3, threads).unwrap()
}

#[test]
fn a_student_tells_families_apart_and_its_folder_knows() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = halves::recipe(folder.path(), &[]);
    let student = halves::student(&recipe);
    let head = fitted(&student, 1);
    assert_eq!(head.families, ["reasoning", "text"]);
    assert_eq!(head.width(), 24);
    // Two thirds are of one family; a word in the middle of a question tells the other.
    let [right, asked] = head.fitted.validation.unwrap();
    assert!(asked == 120 && right > 100, "{right} of {asked}");
    assert_eq!(head, fitted(&student, 3), "whatever the number of threads");

    // What is said of each question is what the fit counted.
    let vlm = student.vlm(&[]).unwrap();
    let encoder =
        Encoder { tokenizer: &student.tokenizer, template: &student.template, end_token: student.end_token };
    let likeliest = |question: &Question| {
        let vector = vlm.question_vector(&encoder.question(&question.text).unwrap()).unwrap();
        let guess = head.guess(&vector).unwrap();
        assert!((guess.iter().map(|(_, part)| part).sum::<f64>() - 1.0).abs() < 1e-12);
        guess.into_iter().max_by(|one, other| one.1.total_cmp(&other.1)).unwrap().0
    };
    let found = questions(1000).iter().filter(|one| likeliest(one) == one.family.name()).count();
    assert_eq!(found, right);

    let model = folder.path().join("model");
    student.save(&model, Storage::F32, Scope::Whole).unwrap();
    assert!(Vlm::open(&model, None, Dtype::F32).unwrap().families().is_none());
    head.save(&model).unwrap();
    // A number read from JSON may differ from the written one in its last bit.
    let opened = Vlm::open(&model, None, Dtype::F32).unwrap();
    let kept = opened.families().unwrap();
    assert_eq!((&kept.families, &kept.fitted), (&head.families, &head.fitted));
    let all =
        |head: &FamilyHead| head.weights.concat().into_iter().chain(head.bias.clone()).collect::<Vec<f64>>();
    assert!(all(kept).iter().zip(all(&head)).all(|(kept, written)| (kept - written).abs() < 1e-12));
    let narrow = FamilyHead { weights: vec![vec![0.0], vec![1.0]], ..head };
    narrow.save(&model).unwrap();
    let error = Vlm::open(&model, None, Dtype::F32).unwrap_err().to_string();
    assert!(
        error.contains("families.json") && error.contains("vectors of 1") && error.contains("24"),
        "{error}"
    );
}

#[test]
fn a_recipe_may_ask_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let plain = halves::recipe(folder.path(), &[]);
    let (student, out) = (halves::student(&plain), folder.path().join("model"));
    assert!(families::export(&plain, &student, &out, 1).unwrap().is_none() && !out.exists());
    // These pictures are asked about in one way only.
    let asks = halves::recipe(folder.path(), &["families={ data=['halves'] }"]);
    let error = families::export(&asks, &student, &out, 1).unwrap_err().to_string();
    assert!(error.contains("`families.data` is reasoning") && error.contains("two families"), "{error}");
    let written = toml::to_string(&asks).unwrap();
    assert_eq!(Recipe::parse("again", &written, &[] as &[&str]).unwrap(), asks);

    let recipe =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/smoke.toml")).unwrap();
    for (set, part) in [
        ("families={ data=[] }", "`families.data` is empty"),
        ("families={ data=['words'] }", "`families.data` is words, allowed is one of the datasets scenes"),
        ("families={ data=['scenes-validation'] }", "not one that is held out"),
        ("families={ data=['scenes'], questions=1 }", "`families.questions` is 1"),
        ("families={ data=['scenes'], ridge=0.0 }", "`families.ridge` is 0"),
        ("families={ data=['scenes'], rigde=0.1 }", "rigde"),
    ] {
        let error = Recipe::parse("smoke.toml", &recipe, &[set]).unwrap_err().to_string();
        assert!(error.contains(part), "{set}: {error}");
    }
}
