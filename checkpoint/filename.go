package checkpoint

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	lockName   = "LOCK"
	recordExt  = ".checkpoint"
	tempExt    = ".tmp"
	namePlain  = "k-"
	nameHashed = "h-"

	// floorName is the name of the file that Forget leaves. It holds a record of the empty key, which no caller has.
	floorName = "forgotten" + recordExt

	// maxPlainName leaves room for the prefix, the extensions and what makes a temporary name different from every
	// other, in the 255 bytes that file systems allow.
	maxPlainName = 200
)

// fileName is the name of the file that holds the record of key. Different keys have different names, also on a
// file system that does not tell upper from lower case; no name is special to any system or leads out of the directory. A
// short key can be read in its name: a-z, 0-9, '-' and '_' stand for themselves and every other byte is %xx.
func fileName(key string) string {
	if key == "" {
		return floorName
	}
	var name strings.Builder
	name.WriteString(namePlain)
	for i := range len(key) {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			name.WriteByte(c)
		default:
			name.WriteByte('%')
			name.WriteString(hex.EncodeToString([]byte{c}))
		}
	}
	if name.Len() > maxPlainName {
		sum := sha256.Sum256([]byte(key))
		return nameHashed + hex.EncodeToString(sum[:]) + recordExt
	}
	name.WriteString(recordExt)
	return name.String()
}

// keeps tells whether name is that of a file with the record of a key.
func keeps(name string) bool {
	return strings.HasSuffix(name, recordExt) && (strings.HasPrefix(name, namePlain) || strings.HasPrefix(name, nameHashed))
}

// leftover tells whether name is that of a new file which was never finished.
func leftover(name string) bool {
	return strings.Contains(name, recordExt+".") && strings.HasSuffix(name, tempExt)
}
