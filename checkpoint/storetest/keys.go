package storetest

import (
	"strings"

	"github.com/streamsafe/streamsafe/checkpoint"
)

// odd returns keys that a store may take for one another, or for something else than a key. All are different.
func odd() []string {
	return append(long(),
		"a", "A", "b", "ab", "a b", " a", "a ", "a\n", "\t",
		"a\x00", "a\x00b", "\x00", "\x00\x00",
		"/", "//", "a/b", "a//b", "a/./b", "a/../b", "/a", "a/", "../a", "../../a", ".", "..", "...", "a.", ".a",
		`a\b`, `\`, "C:", "a:b", "con", "NUL", "nul.txt", "LOCK", "lock", "~", "*", "a.*", "a.>", ">", "?", "|", "<",
		"%", "%61", "%%", "%2f", "%2F", "%00", "_", "-", "__proto__", "'", `"`, "`", ";--", "$a", "${a}", "{a}", "[a]", "#",
		"k-a", "k-a.checkpoint", "a.checkpoint.tmp", "null", "0", "00", "1", "-1", "1e0",
		"é", "e\u0301", "É", "ß", "ss", "ı", "i", "I", "İ", "Å", "\u212b", "日本", "日本語", "🜁", "\u200b", "\u202e", "\ufeff",
		"\xff", "\xfe", "\xff\xff", "\xc3", "\xc3\x28", "\xed\xa0\x80", "\ufffd",
	)
}

// long returns keys around the longest name that a file can have, and up to the longest key; of plain bytes, and of
// bytes that take more room in a name.
func long() []string {
	sizes := []int{60, 66, 67, 199, 200, 201, 250, 254, 255, 256, checkpoint.MaxKeySize}
	fills := []string{"k", "K", "/", "\xff"}
	keys := make([]string, 0, len(sizes)*len(fills)*3)
	for _, size := range sizes {
		for _, fill := range fills {
			head := strings.Repeat(fill, size-1)
			keys = append(keys, head+fill, head+"z", head+"Z")
		}
	}
	return keys
}

// oddKeys sees that no two keys share a record, and that none is refused.
func oddKeys(p *probe) {
	tokens := fill(p)
	for key, token := range tokens {
		p.wantRecord(p.load(key), 1, checkpoint.Position{Seq: 1, Token: token}, "no other key has to do with this one")
	}
	for key := range tokens {
		p.remove(key)
		p.wantMissing(key, "it is deleted")
		delete(tokens, key)
		break
	}
	for key, token := range tokens {
		p.wantRecord(p.load(key), 1, checkpoint.Position{Seq: 1, Token: token}, "another key was deleted, and not this one")
	}
}

// fill gives every odd key an owner and a position with a token of its own, and returns the tokens by key.
func fill(p *probe) map[string]string {
	p.Helper()
	tokens := make(map[string]string)
	for i, key := range odd() {
		token := strings.Repeat("t", i)
		p.wantRecord(p.acquire(key), 1, checkpoint.Position{}, "no other key has to do with this one")
		p.commit(key, 1, checkpoint.Position{Seq: 1, Token: token}, "it owns the key")
		tokens[key] = token
	}
	return tokens
}
