"""What is shown is what the network gets."""

import importlib

from keras_l2e.language import forms

show = importlib.import_module("keras_l2e.show")


def test_copy_read_twice(command):
    found = command("show", "--task=copy", "--input_form=double", "--length=5", "--count=1")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines() == [
        "program  84802",
        "target   84802",
        "                    8   4   8   0   2 EOS   8   4   8   0   2 EOS",
        "encoder_token_ids  16  12  16   8  10  42  16  12  16   8  10  42",
        "                  BOS   8   4   8   0   2",
        "decoder_token_ids  41  16  12  16   8  10",
        "                    8   4   8   0   2 EOS",
        "labels             16  12  16   8  10  42",
    ]


def test_a_target_form_of_its_own_is_shown_beside_the_target(monkeypatch):
    doubled = forms.TargetForm(lambda example: example.target * 2, lambda longest: 99)
    monkeypatch.setitem(forms.TARGET_FORMS, "doubled", doubled)
    shown = show.show(show.Arguments("copy", 3, target_form="doubled", count=1)).splitlines()
    assert shown[1].split() == ["target", target := shown[0].split()[1]]
    assert shown[2].split() == ["written", target * 2]
    assert shown[-2].split() == [*target, *target, "EOS"]
