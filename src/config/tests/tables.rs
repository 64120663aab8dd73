//! Tables of the file, read by a reader made up for the purpose.

use super::*;
use crate::config::{
    layers::Noted,
    table::{Located, Table},
};

#[derive(Debug, PartialEq)]
struct Pet {
    name: String,
    legs: Option<i64>,
    foods: Vec<String>,
    toys: Vec<String>,
    place: String,
}

fn read_pet(table: &mut Table, layers: &mut Layers<'_>) -> Result<Pet, Noted> {
    let name = table.text("name", layers);
    let legs = table.number("legs", layers);
    let foods = table.texts("foods", layers);
    let toys = table.tables("toy", layers, |table, layers| {
        let kind = table.text("kind", layers)?;
        kind.map(|kind| kind.value)
            .ok_or_else(|| table.fault_of_all("has no kind; name one", layers))
    });
    let name = match name? {
        Some(Located { value, origin }) if value.is_empty() => {
            return Err(table.fault("name", &origin, "is empty; name it", layers));
        }
        Some(name) => name.value,
        None => return Err(table.fault_of_all("has no name; name it", layers)),
    };
    Ok(Pet {
        name,
        legs: legs?.map(|legs| legs.value),
        foods: foods?.map_or_else(Vec::new, |foods| {
            foods.value.into_iter().map(|food| food.value).collect()
        }),
        toys: toys?.unwrap_or_default(),
        place: table.origin().to_string(),
    })
}

/// The pets of `[[pet]]` and the one of `[best-pet]`, or what is wrong with the file, sorted.
fn read(text: &str) -> Result<(Vec<Pet>, Option<Pet>), Vec<String>> {
    let flags = ServeFlags {
        config: Some("p.toml".into()),
        ..ServeFlags::default()
    };
    let read_file = |_: &Path| Ok(text.to_owned());
    let mut layers = Layers::new(&flags, &|_| None, &read_file);
    let pets = layers.tables("pet", read_pet);
    let best = layers.table("best-pet", read_pet);
    match (layers.finish(), pets, best) {
        (Ok(_), Ok(pets), Ok(best)) => Ok((pets.unwrap_or_default(), best)),
        (Err(faults), ..) => {
            let mut faults: Vec<_> = faults.0.iter().map(ToString::to_string).collect();
            faults.sort();
            Err(faults)
        }
        (Ok(_), ..) => panic!("something is wrong, but no fault was noted"),
    }
}

#[track_caller]
fn refused(text: &str, due: &[&str]) {
    let faults = read(text).expect_err("faults");
    assert_eq!(faults, due, "{text}");
}

#[test]
fn tables_are_read_with_their_places() {
    let (pets, best) = read(
        r#"
[[pet]]
name = "Rex"
legs = 0x4
foods = ["meat",
         "bread"]

[[pet]]
name = "Tweety"
toy = [{kind = "bell"}, {kind = "mirror"}]

[best-pet]
name = "Tom"
[[best-pet.toy]]
kind = "mouse"
"#,
    )
    .expect("no faults");
    let pet = |name: &str, place: &str| Pet {
        name: name.into(),
        legs: None,
        foods: vec![],
        toys: vec![],
        place: place.into(),
    };
    let rex = Pet {
        legs: Some(4),
        foods: vec!["meat".into(), "bread".into()],
        ..pet("Rex", "p.toml:2")
    };
    let tweety = Pet {
        toys: vec!["bell".into(), "mirror".into()],
        ..pet("Tweety", "p.toml:8")
    };
    let tom = Pet {
        toys: vec!["mouse".into()],
        ..pet("Tom", "p.toml:12")
    };
    assert_eq!(pets, [rex, tweety]);
    assert_eq!(best, Some(tom));
    assert_eq!(read("").expect("no faults"), (vec![], None));
}

#[test]
fn every_fault_of_every_table_is_told_with_its_line_and_no_value() {
    refused(
        r#"[[pet]]
name = 7
legs = "hunter2"
colour = "hunter2"
foods = ["hay", 1979-05-27,
  ["hunter2"]]
[[pet]]
Name = "hunter2"
[[pet.toy]]
kind = "ball"
sound = "hunter2"
[[pet.toy]]
[best-pet]
legs = 99999999999999999999
name = ""
"#,
        &[
            "\"Name\", from p.toml:8: is no field of pet; did you mean name?",
            "\"colour\", from p.toml:4: is no field of pet; take it out, or name one of name, legs, foods, toy",
            "\"sound\", from p.toml:11: is no field of pet.toy; take it out, or name one of kind",
            "best-pet.legs, from p.toml:14: has too many digits; write fewer",
            "best-pet.name, from p.toml:15: is empty; name it",
            "pet, from p.toml:7: has no name; name it",
            "pet.foods, from p.toml:5: is of type datetime; write a list of texts, such as [\"a\", \"b\"]",
            "pet.foods, from p.toml:6: is of type array; write a list of texts, such as [\"a\", \"b\"]",
            "pet.legs, from p.toml:3: is of type string; write a whole number",
            "pet.name, from p.toml:2: is of type integer; write a text in quotes",
            "pet.toy, from p.toml:12: has no kind; name one",
        ],
    );
}

#[test]
fn what_is_no_table_or_no_list_of_them_is_refused() {
    refused(
        "pet = \"hunter2\"\nbest-pet = true",
        &[
            "best-pet, from p.toml:2: is of type boolean; write a table, [best-pet]",
            "pet, from p.toml:1: is of type string; write a table for each, [[pet]]",
        ],
    );
    refused(
        "[pet]\nname = \"Rex\"\n[[best-pet]]\nname = \"Tom\"",
        &[
            "best-pet, from p.toml:3: is of type array; write a table, [best-pet]",
            "pet, from p.toml:1: is of type table; write a table for each, [[pet]]",
        ],
    );
    refused(
        "pet = [{name = \"Rex\"},\n7]",
        &["pet, from p.toml:2: is of type integer; write a table for each, [[pet]]"],
    );
}

#[test]
fn a_table_that_nobody_reads_is_refused() {
    let faults = read("[[pets]]\nname = \"Rex\"\n[best]\nx = 1").expect_err("faults");
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults[0].starts_with("\"best\", from p.toml:3: is no setting; take it out"));
    assert!(faults[1].starts_with("\"pets\", from p.toml:1: is no setting; take it out"));
}

#[test]
fn what_stands_there_twice_is_told_with_all_other_faults() {
    refused(
        "[best-pet]\nname = \"Tom\"\nname = \"Tim\"\nlegs = \"4\"\n[best-pet]\nfoods = 1\n[[pet]]\nname = 1",
        &[
            "best-pet.foods, from p.toml:6: is of type integer; write a list of texts, such as [\"a\", \"b\"]",
            "best-pet.legs, from p.toml:4: is of type string; write a whole number",
            "config, from p.toml:3: is not TOML: duplicate key",
            "config, from p.toml:5: is not TOML: duplicate key",
            "pet.name, from p.toml:8: is of type integer; write a text in quotes",
        ],
    );
    // A file with another fault is told as before: by the first one alone.
    refused(
        "name = \"a\"\nname = \"b\"\nlog = \n[best-pet]\nlegs = \"4\"",
        &["config, from p.toml:2: is not TOML: duplicate key"],
    );
}

#[test]
fn settings_that_stand_there_twice_contradict_nothing() {
    let mut given = Given::file("gate-insecure = false\ngate-insecure = true");
    given.flags.gate = Some("0.0.0.0:7700".into());
    given.refused(&["p.toml:2", "duplicate key"]);
}
