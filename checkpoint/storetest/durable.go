package storetest

import "github.com/streamsafe/streamsafe/checkpoint"

func durableCases() []testCase {
	return []testCase{
		{"commit survives", commitSurvives},
		{"acquire survives", acquireSurvives},
		{"delete survives", deleteSurvives},
		{"keys survive", keysSurvive},
	}
}

func commitSurvives(p *probe) {
	at := checkpoint.Position{Lineage: "a", Seq: 7, Token: "token"}
	owner := p.acquire(key)
	p.commit(key, owner.Epoch, at, "it owns the key")
	before := p.load(key)
	p.reopen()
	if after := p.load(key); !same(before, after) {
		p.Fatalf("the record is %s, it was %s before the store was opened again", summary(after), summary(before))
	}
	at.Seq--
	p.refuse(key, owner.Epoch, at, checkpoint.ErrRegression, "it moves back, and the owner is the same")
	at.Seq = 8
	p.commit(key, owner.Epoch, at, "the owner is the same")
}

func acquireSurvives(p *probe) {
	older := p.acquire(key)
	p.reopen()
	p.wantRecord(p.load(key), older.Epoch, checkpoint.Position{}, "the key was acquired before")
	newer := p.acquire(key)
	if newer.Epoch <= older.Epoch {
		p.Fatalf("epoch %d came after %d, from before the store was opened again: it must grow", newer.Epoch, older.Epoch)
	}
	p.reopen()
	p.refuse(key, older.Epoch, checkpoint.Position{Seq: 1}, checkpoint.ErrFenced, "a later Acquire took the key")
	p.commit(key, newer.Epoch, checkpoint.Position{Seq: 1}, "it owns the key still")
}

func deleteSurvives(p *probe) {
	older := p.acquire(key)
	p.commit(key, older.Epoch, checkpoint.Position{Seq: 7}, "it owns the key")
	p.remove(key)
	p.reopen()
	p.wantMissing(key, "it was deleted before")
	p.refuse(key, older.Epoch, checkpoint.Position{Seq: 8}, checkpoint.ErrFenced, "Delete fenced it")
	newer := p.acquire(key)
	if newer.Epoch <= older.Epoch {
		p.Fatalf("epoch %d came after %d, from before the Delete: it must grow", newer.Epoch, older.Epoch)
	}
	p.wantRecord(newer, newer.Epoch, checkpoint.Position{}, "a deleted key starts at the beginning")
}

func keysSurvive(p *probe) {
	tokens := fill(p)
	p.reopen()
	for key, token := range tokens {
		p.wantRecord(p.load(key), 1, checkpoint.Position{Seq: 1, Token: token}, "it was committed before")
	}
}
