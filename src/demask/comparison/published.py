"""What the paper reports (arXiv 2510.09885 v6, Table 1), to stand beside what was measured here."""

PAPER = "arXiv 2510.09885"

# Forward / backward ROUGE-1 recall as published: means of four models of 3B to 8B, LLaDA-8B for diffusion.
PUBLISHED = {
    ("name-description", "untouched"): ".034 / .016",
    ("name-description", "next-token"): ".264 / .029",
    ("name-description", "next-token-paraphrases"): ".954 / .031",
    ("name-description", "reverse"): ".350 / .106",
    ("name-description", "diffusion"): ".869 / .852",
    ("name-description", "demasking"): ".905 / .929",
    ("name-description", "demasking-paraphrases"): ".968 / .919",
    ("biography", "untouched"): ".019 / .001",
    ("biography", "next-token"): ".153 / .002",
    ("biography", "next-token-paraphrases"): ".975 / .002",
    ("biography", "reverse"): ".269 / .012",
    ("biography", "diffusion"): ".892 / .696",
    ("biography", "demasking"): ".966 / .678",
    ("biography", "demasking-paraphrases"): ".964 / .815",
    ("wiki", "untouched"): ".178 / .190",
    ("wiki", "next-token"): ".464 / .309",
    ("wiki", "next-token-paraphrases"): ".674 / .391",
    ("wiki", "reverse"): ".535 / .407",
    ("wiki", "diffusion"): ".908 / .778",
    ("wiki", "demasking"): ".948 / .901",
    ("wiki", "demasking-paraphrases"): ".869 / .812",
}
