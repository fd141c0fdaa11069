/* Pointers of an object graph, to say later that surely nothing in it changed.

   Theory of operation
   - A walk visits every object once, breadth first, and writes down the words that make up its value: addresses of its
     children, and where a type has one, a number. Atoms (what cannot change) are written down and not visited.
   - A check reads the same objects in the same order and compares words. It stops at the first difference. An object
     was written down after one that refers to it; so when its turn comes, an object just found unchanged refers to it,
     and it is alive. Visited objects need no reference of ours for that: they die when the notebook lets go of them.
   - Another object that was born at the address of a dead one, with the same type and the same words, is the same
     value. That holds only where the words are the whole value; where they are not (atoms, subclasses of int), the
     snapshot owns a reference, so that the address stays taken. Types are owned as well: they say what memory to read.
   - A later snapshot of the same roots, compared with this one object by object, says what is other, new and gone. The
     same holds for addresses there: what has type and words as before is pickled as before, whoever was born there.
   - Nothing here runs code of the notebook: no attribute, no comparison, no hash. The collector is off meanwhile, the
     GIL is held throughout. Only the caller's `leaf` runs code; it runs after a walk or a check is over.

   graph.py says what the functions here promise, and does the same in Python. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <datetime.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if PY_VERSION_HEX < 0x030C0000
#include <structmember.h>
#endif

#if PY_VERSION_HEX < 0x030B0000 || PY_VERSION_HEX >= 0x030F0000 || defined(Py_GIL_DISABLED) || defined(PYPY_VERSION)
#error "object layouts of this Python are not known here; the Python implementation is used instead"
#endif

#define MEMBER_OBJECT 6     /* Py_T_OBJECT and its successor, under any of their names */
#define MEMBER_OBJECT_EX 16
#define NOT_OWNED ((uintptr_t)1)

/* -- what is known of a type */

enum { ATOM, CONTAINER, OPAQUE, FUNCTION, BUILTIN, MOMENT, WEAKREF, MODULE };
enum { NO_BODY, VALUE_BODY, LIST_BODY, TUPLE_BODY, DICT_BODY, SET_BODY, FUNCTION_BODY, METHOD_BODY, BUILTIN_BODY,
       CELL_BODY, DEQUE_BODY, ODICT_BODY, WEAKREF_BODY, VIEW_BODY };

typedef struct {
    PyTypeObject *type;
    Py_ssize_t *slots;   /* offsets of fields that hold an object or NULL */
    uint16_t nslots;
    uint8_t role;        /* ATOM ... MODULE */
    uint8_t body;        /* how the part below the slots is read */
    uint8_t owned;       /* its words are not its whole value */
    uint8_t has_dict;
} Info;

typedef struct {
    uint32_t *cells;     /* index into `infos` + 1; 0 is free */
    size_t mask;
    Info *infos;
    size_t count, room;
} Types;

#define BASES_ROOM 128
static Info bases[BASES_ROOM];
static uint32_t base_cells[4 * BASES_ROOM];
static size_t nbases;
static traverseproc class_traverse;  /* of a class that a class statement made */
static PyTypeObject *deque_type, *enum_type, *finalizer_type;
static PyGetSetDef *deque_maxlen;

typedef struct odict_node {
    PyObject *key;
    Py_hash_t hash;
    struct odict_node *next, *prev;
} ODictNode;

typedef struct {
    PyDictObject dict;
    ODictNode *first, *last;
    ODictNode **fast_nodes;
    Py_ssize_t fast_nodes_size;
    void *resize_sentinel;
    size_t state;
    PyObject *inst_dict, *weakreflist;
} ODict;

typedef struct {
    PyObject_HEAD
    PyObject *dict;
} DictView;

static inline size_t hash_of(const void *p)
{
    return (size_t)(((uintptr_t)p >> 4) * (uintptr_t)0x9E3779B97F4A7C15u >> 20);
}

/* -- the words of an object; `visit` gets children, `word` gets numbers and addresses that are not visited */

typedef int (*wordproc)(uintptr_t, void *);

#define VISIT(o) do { if (visit((PyObject *)(o), arg)) return 1; } while (0)
#define WORD(w) do { if (word((uintptr_t)(w), arg)) return 1; } while (0)

static inline __attribute__((always_inline)) int dict_words(PyObject *dict, visitproc visit, void *arg)
{
    Py_ssize_t pos = 0;
    PyObject *key, *value;
    while (PyDict_Next(dict, &pos, &key, &value)) {
        VISIT(key);
        VISIT(value);
    }
    return 0;
}

/* Whether it is as if there were none: an empty dictionary that nobody else refers to is made by looking for it. */
static inline int is_as_none(PyObject *dict)
{
    return dict == NULL || (PyDict_CheckExact(dict) && PyDict_GET_SIZE(dict) == 0 && Py_REFCNT(dict) == 1);
}

static inline uintptr_t identity_of(PyObject *instance_dict)
{
    if (is_as_none(instance_dict))
        return 0;
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030D0000
    if (Py_REFCNT(instance_dict) == 1)
        return 2;  /* nobody else refers to it; this Python drops such a one when an attribute is read, and makes another */
#endif
    return (uintptr_t)instance_dict;
}

static inline int function_words(PyFunctionObject *f, visitproc visit, wordproc word, void *arg)
{
    WORD(f->func_globals);
    VISIT(f->func_code);
    VISIT(f->func_name);
    VISIT(f->func_qualname);
    VISIT(f->func_defaults);
    VISIT(f->func_kwdefaults);
    VISIT(f->func_closure);
    VISIT(f->func_doc);
    VISIT(is_as_none(f->func_dict) ? NULL : f->func_dict);
    VISIT(is_as_none(f->func_annotations) ? NULL : f->func_annotations);
    VISIT(f->func_module);
#if PY_VERSION_HEX >= 0x030C0000
    VISIT(f->func_typeparams);
#endif
#if PY_VERSION_HEX >= 0x030E0000
    VISIT(f->func_annotate);
#endif
    return 0;
}

static inline PyObject *weakref_target(PyObject *ref)
{
    PyObject *target = ((PyWeakReference *)ref)->wr_object;
    return target != NULL && Py_REFCNT(target) > 0 ? target : Py_None;
}

static inline __attribute__((always_inline)) int words(
    PyObject *o, const Info *info, visitproc visit, wordproc word, void *arg)
{
    switch (info->body) {
    case LIST_BODY:
        for (Py_ssize_t i = 0, n = Py_SIZE(o); i < n; i++)
            VISIT(((PyListObject *)o)->ob_item[i]);
        break;
    case TUPLE_BODY:
        for (Py_ssize_t i = 0, n = Py_SIZE(o); i < n; i++)
            VISIT(((PyTupleObject *)o)->ob_item[i]);
        break;
    case DICT_BODY:
        if (dict_words(o, visit, arg))
            return 1;
        break;
    case SET_BODY: {
        PySetObject *set = (PySetObject *)o;
        for (Py_ssize_t i = 0; i <= set->mask; i++)
            if (set->table[i].key != NULL && set->table[i].hash != -1)
                VISIT(set->table[i].key);
        break;
    }
    case FUNCTION_BODY:
        if (function_words((PyFunctionObject *)o, visit, word, arg))
            return 1;
        break;
    case METHOD_BODY:
        VISIT(PyMethod_GET_FUNCTION(o));
        VISIT(PyMethod_GET_SELF(o));
        break;
    case BUILTIN_BODY:
        WORD(((PyCFunctionObject *)o)->m_ml);
        VISIT(((PyCFunctionObject *)o)->m_self);
        VISIT(((PyCFunctionObject *)o)->m_module);
        break;
    case CELL_BODY:
        VISIT(PyCell_GET(o));
        break;
    case DEQUE_BODY: {
        PyObject *limit = deque_maxlen->get(o, deque_maxlen->closure);
        if (limit == NULL) {
            PyErr_Clear();
            return 1;
        }
        WORD(limit == Py_None ? 0 : (uintptr_t)(PyLong_AsSsize_t(limit) + 1) << 1);
        Py_DECREF(limit);
        if (deque_type->tp_traverse(o, visit, arg))
            return 1;
        break;
    }
    case ODICT_BODY:
        if (dict_words(o, visit, arg))
            return 1;
        for (ODictNode *node = ((ODict *)o)->first; node != NULL; node = node->next)
            VISIT(node->key);
        break;
    case WEAKREF_BODY:
        VISIT(weakref_target(o));
        VISIT(((PyWeakReference *)o)->wr_callback);
        break;
    case VIEW_BODY:
        VISIT(((DictView *)o)->dict);
        break;
    }
    for (uint16_t i = 0; i < info->nslots; i++)
        VISIT(*(PyObject **)((char *)o + info->slots[i]));
    if (info->has_dict) {
        PyObject **place = _PyObject_GetDictPtr(o);
        PyObject *dict = place != NULL ? *place : NULL;
        if (dict == NULL || PyDict_CheckExact(dict)) {
            WORD(identity_of(dict));
            if (dict != NULL && dict_words(dict, visit, arg))
                return 1;
        } else {
            WORD(4);
            VISIT(dict);
        }
    }
    return 0;
}

/* -- types */

static size_t find_cell(const uint32_t *cells, size_t mask, const Info *infos, PyTypeObject *type)
{
    size_t at = hash_of(type) & mask;
    while (cells[at] != 0) {
        uint32_t i = cells[at] - 1;
        if ((i < nbases ? &bases[i] : &infos[i - nbases])->type == type)
            break;
        at = (at + 1) & mask;
    }
    return at;
}

static inline const Info *info_at(const Info *infos, size_t i)
{
    return i < nbases ? &bases[i] : &infos[i - nbases];
}

static const Info *base_info(PyTypeObject *type)
{
    size_t at = find_cell(base_cells, 4 * BASES_ROOM - 1, NULL, type);
    return base_cells[at] != 0 ? &bases[base_cells[at] - 1] : NULL;
}

/* Whether `type` adds nothing to its base but slots, a dictionary and weak references; says where the slots are. */
static int is_plain_layer(PyTypeObject *type, Py_ssize_t *slots, Py_ssize_t *nslots, Py_ssize_t room)
{
    PyTypeObject *base = type->tp_base;
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || base == NULL || type->tp_itemsize != base->tp_itemsize)
        return 0;
    Py_ssize_t left = type->tp_basicsize - base->tp_basicsize;
    if (left == 0)  /* a tuple may have items beyond its length, as time.struct_time has */
        return type->tp_itemsize == 0 || !PyType_IS_GC(type) || type->tp_traverse == class_traverse;
    if (left < 0 || type->tp_traverse != class_traverse)
        return 0;
    if (type->tp_dictoffset != 0 && base->tp_dictoffset == 0 && !(type->tp_flags & Py_TPFLAGS_MANAGED_DICT))
        left -= sizeof(PyObject *);
    if (type->tp_weaklistoffset > 0 && base->tp_weaklistoffset == 0)
        left -= sizeof(PyObject *);
    for (PyMemberDef *m = type->tp_members; m != NULL && m->name != NULL; m++) {
        if (m->type != MEMBER_OBJECT_EX || m->offset < base->tp_basicsize || *nslots == room)
            return 0;
        slots[(*nslots)++] = m->offset;
        left -= sizeof(PyObject *);
    }
    return left == 0;
}

#define SLOTS_ROOM 256

/* What is known of a type that is not in the table of bases. Returns 0, or -1 with an exception. */
static int study(PyTypeObject *type, PyObject *atoms, Info *info)
{
    Py_ssize_t slots[SLOTS_ROOM], nslots = 0;
    *info = (Info){.type = type, .role = OPAQUE};
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(atoms); i++)
        if (PyTuple_GET_ITEM(atoms, i) == (PyObject *)type) {
            info->role = ATOM;
            return 0;
        }
    if (PyType_FastSubclass(type, Py_TPFLAGS_TYPE_SUBCLASS) || PyType_IsSubtype(Py_TYPE(type), enum_type)) {
        info->role = ATOM;  /* a class, or a member of an enumeration, which is part of its class */
        return 0;
    }
    if (PyType_IsSubtype(type, finalizer_type))
        return 0;  /* what it is to call is kept by its class */
    PyTypeObject *below = type;
    const Info *base = NULL;
    while (below != NULL && (base = base_info(below)) == NULL) {
        if (!is_plain_layer(below, slots, &nslots, SLOTS_ROOM))
            return 0;
        below = below->tp_base;
    }
    if (base == NULL || (base->role != CONTAINER && base->role != WEAKREF && base->body != VALUE_BODY))
        return 0;
    if (nslots + base->nslots > SLOTS_ROOM)
        return 0;
    for (uint16_t i = 0; i < base->nslots; i++)
        slots[nslots++] = base->slots[i];
    if (nslots > 0) {
        info->slots = PyMem_RawMalloc(nslots * sizeof *slots);
        if (info->slots == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(info->slots, slots, nslots * sizeof *slots);
    }
    info->nslots = (uint16_t)nslots;
    info->has_dict = type->tp_dictoffset != 0 || (type->tp_flags & Py_TPFLAGS_MANAGED_DICT);
    info->body = base->body;
    info->owned = base->owned || base->body == VALUE_BODY;
    info->role = base->body != VALUE_BODY ? base->role : nslots > 0 || info->has_dict ? CONTAINER : ATOM;
    return 0;
}

static void free_infos(Info *infos, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        PyMem_RawFree(infos[i].slots);
        Py_DECREF(infos[i].type);
    }
    PyMem_RawFree(infos);
}

static int grow_types(Types *types)
{
    size_t size = 2 * (types->mask + 1);
    uint32_t *cells = PyMem_RawCalloc(size, sizeof *cells);
    if (cells == NULL)
        return -1;
    for (size_t i = 0; i < nbases + types->count; i++)
        cells[find_cell(cells, size - 1, types->infos, info_at(types->infos, i)->type)] = (uint32_t)i + 1;
    PyMem_RawFree(types->cells);
    types->cells = cells;
    types->mask = size - 1;
    return 0;
}

/* Index of what is known of `type`; -1 with an exception. */
static Py_ssize_t learn_type(Types *types, PyTypeObject *type, PyObject *atoms)
{
    if (2 * (nbases + types->count + 1) > types->mask && grow_types(types) < 0)
        goto no_memory;
    if (types->count == types->room) {
        size_t room = types->room ? 2 * types->room : 8;
        Info *infos = PyMem_RawRealloc(types->infos, room * sizeof *infos);
        if (infos == NULL)
            goto no_memory;
        types->infos = infos;
        types->room = room;
    }
    if (study(type, atoms, &types->infos[types->count]) < 0)
        return -1;
    types->cells[find_cell(types->cells, types->mask, types->infos, type)] = (uint32_t)(nbases + types->count) + 1;
    Py_INCREF(type);
    return (Py_ssize_t)(nbases + types->count++);
no_memory:
    PyErr_NoMemory();
    return -1;
}

/* -- the snapshot */

typedef struct {
    PyObject *obj;   /* not owned */
    uint32_t type;   /* index of its Info */
    uint32_t count;  /* of its words */
} Record;

typedef struct {
    PyObject *obj;   /* not owned */
    PyTypeObject *type;
    PyObject *token;
} Leaf;

/* What a snapshot has another than its base, or more. */
typedef struct {
    Record record;
    uintptr_t *words;
    uint32_t index;      /* in the base, of the object that it replaces; UINT32_MAX if it is more */
    uint32_t parent;     /* of one that is more */
    char is_gone;
} Part;

typedef struct {
    uint32_t index, parent;
} Move;

#define AT_ROOT UINT32_MAX

typedef struct Snapshot {
    PyObject_HEAD
    uintptr_t *words;    /* of the roots, then of each record; NOT_OWNED marks those that hold no reference */
    Record *records;
    Info *infos;         /* of types beyond the bases */
    Leaf *leaves;
    uintptr_t *shared;   /* addresses of objects that two names could share and one could change */
    uint32_t *numbers;   /* by record: its place in the pickle that was written, + 1; NULL if none was */
    size_t nwords, nrecords, ninfos, nleaves, nroots, nshared;
    uint32_t *parents;   /* by record: the one that it was met from, or AT_ROOT */
    uint32_t *cells;     /* index of a record + 1 by its address; made when it is first needed */
    size_t cells_mask;
    size_t *shared_cells;  /* index in `shared` + 1, likewise */
    size_t shared_mask;
    struct Snapshot *base;  /* what it is but for its parts (see _graph_amend.h); its words are of its roots alone then */
    Part *parts;         /* those that replace one, in order; then those that are more */
    Move *moves;         /* objects with another parent than in the base */
    uintptr_t *shared_gone;  /* of what the base has in `shared`; `shared` is of what came since */
    size_t nparts, nchanged, nmoves, nshared_gone;
    char has_shared_dict;  /* something beside its instance refers to the dictionary of one */
    PyObject *leaf;
} Snapshot;

static int stand_alone(Snapshot *s);
static int snapshot_clear(Snapshot *s);
static void forget(Snapshot *s);

static PyTypeObject *snapshot_type;

typedef struct {
    Snapshot *out;
    Types types;
    PyObject **seen;     /* a set of addresses */
    size_t seen_mask, nseen;
    size_t words_room, records_room, leaves_room, shared_room, limit;
    uint32_t current;    /* whose words are written down */
    PyObject *live, *atoms;
    int given_up;        /* opaque or too large; with no exception set */
} Walk;

static int add_word(Walk *w, uintptr_t word)
{
    Snapshot *s = w->out;
    if (s->nwords == w->words_room) {
        size_t room = w->words_room ? 2 * w->words_room : 64;
        uintptr_t *words = PyMem_RawRealloc(s->words, room * sizeof *words);
        if (words == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->words = words;
        w->words_room = room;
    }
    if (s->nwords >= w->limit) {
        w->given_up = 1;
        return 1;
    }
    s->words[s->nwords++] = word;
    return 0;
}

static int record_word(uintptr_t word, void *arg)
{
    return add_word(arg, word | NOT_OWNED);
}

/* Room for about what `old` holds, so that nothing has to grow; where there is none, it will have to. */
static void make_room(Walk *w, const Snapshot *old)
{
    size_t nwords = Py_MIN(old->nwords + 256, w->limit), nrecords = old->nrecords + 64, size = 64;
    while (2 * (nrecords + old->nleaves) > size - 1)
        size *= 2;
    if (nwords > 0 && (w->out->words = PyMem_RawMalloc(nwords * sizeof *w->out->words)) != NULL)
        w->words_room = nwords;
    w->out->records = PyMem_RawMalloc(nrecords * sizeof *w->out->records);
    w->out->parents = PyMem_RawMalloc(nrecords * sizeof *w->out->parents);
    if (w->out->records != NULL && w->out->parents != NULL)
        w->records_room = nrecords;
    if ((w->seen = PyMem_RawCalloc(size, sizeof *w->seen)) != NULL)
        w->seen_mask = size - 1;
}

static int grow_seen(Walk *w)
{
    size_t size = w->seen != NULL ? 2 * (w->seen_mask + 1) : 64;
    PyObject **seen = PyMem_RawCalloc(size, sizeof *seen);
    if (seen == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; w->seen != NULL && i <= w->seen_mask; i++)
        if (w->seen[i] != NULL) {
            size_t at = hash_of(w->seen[i]) & (size - 1);
            while (seen[at] != NULL)
                at = (at + 1) & (size - 1);
            seen[at] = w->seen[i];
        }
    PyMem_RawFree(w->seen);
    w->seen = seen;
    w->seen_mask = size - 1;
    return 0;
}

/* 1 if `o` is new, 0 if it was seen, -1 with an exception. */
static int see(Walk *w, PyObject *o)
{
    if (2 * (w->nseen + 1) > w->seen_mask && grow_seen(w) < 0)
        return -1;
    size_t at = hash_of(o) & w->seen_mask;
    while (w->seen[at] != NULL) {
        if (w->seen[at] == o)
            return 0;
        at = (at + 1) & w->seen_mask;
    }
    w->seen[at] = o;
    w->nseen++;
    return 1;
}

static int add_record(Walk *w, PyObject *o, size_t type)
{
    Snapshot *s = w->out;
    int is_new = see(w, o);
    if (is_new <= 0)
        return is_new < 0;
    if (s->nrecords == w->records_room) {
        size_t room = w->records_room ? 2 * w->records_room : 16;
        Record *records = PyMem_RawRealloc(s->records, room * sizeof *records);
        if (records == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->records = records;
        uint32_t *parents = PyMem_RawRealloc(s->parents, room * sizeof *parents);
        if (parents == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->parents = parents;
        w->records_room = room;
    }
    s->parents[s->nrecords] = w->current;
    s->records[s->nrecords++] = (Record){o, (uint32_t)type, 0};
    return 0;
}

static int add_leaf(Walk *w, PyObject *o)
{
    Snapshot *s = w->out;
    if (s->leaf == NULL || o == w->live) {
        w->given_up = 1;
        return 1;
    }
    if (add_word(w, (uintptr_t)o | NOT_OWNED))
        return 1;
    int is_new = see(w, o);
    if (is_new <= 0)
        return is_new < 0;
    if (s->nleaves == w->leaves_room) {
        size_t room = w->leaves_room ? 2 * w->leaves_room : 4;
        Leaf *leaves = PyMem_RawRealloc(s->leaves, room * sizeof *leaves);
        if (leaves == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->leaves = leaves;
        w->leaves_room = room;
    }
    Py_INCREF(Py_TYPE(o));
    s->leaves[s->nleaves++] = (Leaf){o, Py_TYPE(o), NULL};
    return 0;
}

/* Index of what is known of the type of `o`; -1 with an exception. */
static inline Py_ssize_t type_index(Walk *w, PyObject *o)
{
    size_t at = find_cell(w->types.cells, w->types.mask, w->types.infos, Py_TYPE(o));
    if (w->types.cells[at] != 0)
        return (Py_ssize_t)w->types.cells[at] - 1;
    return learn_type(&w->types, Py_TYPE(o), w->atoms);
}

/* The dictionary of the module that is imported under `name`; NULL if there is none. */
static PyObject *imported(PyObject *name, PyObject **module)
{
    *module = NULL;
    if (name == NULL || !PyUnicode_CheckExact(name))
        return NULL;
    PyObject *found = PyImport_GetModule(name);
    if (found == NULL) {
        PyErr_Clear();
        return NULL;
    }
    *module = found;  /* sys.modules keeps it */
    Py_DECREF(found);
    return PyModule_Check(found) ? PyModule_GetDict(found) : NULL;
}

static PyObject *item(PyObject *dict, PyObject *name)
{
    PyObject *found = PyDict_GetItemWithError(dict, name);
    if (found == NULL)
        PyErr_Clear();
    return found;
}

static PyObject *str_dunder_name, *str_dunder_spec, *str_dunder_file;

/* Whether nothing was imported for a module that is in sys.modules. */
static int is_made_by_hand(PyObject *module, PyObject *content)
{
    PyObject *name = item(content, str_dunder_name), *spec = item(content, str_dunder_spec);
    if (Py_TYPE(module) != &PyModule_Type || (spec != NULL && spec != Py_None) || item(content, str_dunder_file) != NULL)
        return 0;
    return PyUnicode_FindChar(name, '.', 0, PyUnicode_GET_LENGTH(name), 1) < 0
           && PyUnicode_CompareWithASCIIString(name, "__main__") != 0
           && PyUnicode_CompareWithASCIIString(name, "__mp_main__") != 0;
}

/* How one function is treated: a library's own by identity, the notebook's by its parts. */
static int role_of_function(Walk *w, PyObject *o)
{
    PyObject *globals = PyFunction_GET_GLOBALS(o), *name = ((PyFunctionObject *)o)->func_name, *module;
    if (globals == w->live)
        return CONTAINER;
    if (!PyDict_CheckExact(globals) || imported(item(globals, str_dunder_name), &module) != globals)
        return OPAQUE;
    return PyUnicode_CheckExact(name) && item(globals, name) == o ? ATOM : CONTAINER;
}

/* ATOM, CONTAINER or OPAQUE, for types of which not every object is treated alike; -1 with an exception. */
static int role_of_object(Walk *w, PyObject *o, const Info *info)
{
    PyObject *part, *module;
    Py_ssize_t index;
    switch (info->role) {
    case FUNCTION:
        return role_of_function(w, o);
    case BUILTIN:
        part = ((PyCFunctionObject *)o)->m_self;
        return part == NULL || PyModule_Check(part) || PyType_Check(part) ? ATOM : CONTAINER;
    case MODULE:
        part = PyModule_GetDict(o);
        return imported(item(part, str_dunder_name), &module) == part && module == o && !is_made_by_hand(o, part) ? ATOM : OPAQUE;
    case MOMENT:
        part = PyDateTime_CheckExact(o) ? PyDateTime_DATE_GET_TZINFO(o) : PyDateTime_TIME_GET_TZINFO(o);
        index = type_index(w, part);
        if (index < 0)
            return -1;
        return info_at(w->types.infos, index)->role == ATOM ? ATOM : OPAQUE;
    case WEAKREF:  /* what it refers to must not be owned, for then it would not die */
        part = weakref_target(o);
        index = type_index(w, part);
        if (index < 0)
            return -1;
        info = info_at(w->types.infos, index);
        return part == Py_None || (info->role == CONTAINER && !info->owned) || info->role == OPAQUE ? CONTAINER : OPAQUE;
    default:
        return info->role;
    }
}

static int record_child(PyObject *o, void *arg)
{
    Walk *w = arg;
    if (o == NULL)
        return add_word(w, NOT_OWNED);
    Py_ssize_t index = type_index(w, o);
    if (index < 0)
        return 1;
    const Info *info = info_at(w->types.infos, index);
    int owned = info->owned, role = info->role;
    if (role > OPAQUE && (role = role_of_object(w, o, info)) < 0)
        return 1;
    if (role == ATOM) {
        if (add_word(w, (uintptr_t)o))
            return 1;
        Py_INCREF(o);
        return 0;
    }
    if (role == OPAQUE || o == w->live)
        return add_leaf(w, o);
    if (add_word(w, (uintptr_t)o | (owned ? 0 : NOT_OWNED)))
        return 1;
    if (owned)
        Py_INCREF(o);
    return add_record(w, o, index);
}

static int add_shared(Walk *w, void *address)
{
    Snapshot *s = w->out;
    if (s->nshared == w->shared_room) {
        size_t room = w->shared_room ? 2 * w->shared_room : 16;
        uintptr_t *shared = PyMem_RawRealloc(s->shared, room * sizeof *shared);
        if (shared == NULL) {
            PyErr_NoMemory();
            return 1;
        }
        s->shared = shared;
        w->shared_room = room;
    }
    s->shared[s->nshared++] = (uintptr_t)address;
    return 0;
}

/* Whether two names that hold `o` could see a change of it through each other. */
static int can_be_shared(const Walk *w, PyObject *o)
{
    PyTypeObject *type = Py_TYPE(o);
    if (PyTuple_Check(o) || PyFrozenSet_Check(o) || type == &PySlice_Type || type == &Py_GenericAliasType)
        return 0;
    return type != &PyFunction_Type || PyFunction_GET_GLOBALS(o) == w->live;
}

/* Its own address, and the one of its dictionary, which another name may hold. */
static int note_shared(Walk *w, PyObject *o, const Info *info)
{
    if (can_be_shared(w, o) && add_shared(w, o))
        return 1;
    PyObject **place = info->has_dict ? _PyObject_GetDictPtr(o) : NULL;
    if (place == NULL || is_as_none(*place))
        return 0;
    w->out->has_shared_dict |= Py_REFCNT(*place) > 1;
    return add_shared(w, *place);
}

/* 0 when everything was written down; 1 when given up, or with an exception. */
static int walk(Walk *w, PyObject **roots, Py_ssize_t nroots)
{
    Snapshot *s = w->out;
    w->types.mask = 4 * BASES_ROOM - 1;
    w->types.cells = PyMem_RawMalloc(sizeof base_cells);
    if (w->types.cells == NULL) {
        PyErr_NoMemory();
        return 1;
    }
    memcpy(w->types.cells, base_cells, sizeof base_cells);
    s->nroots = nroots;
    w->current = AT_ROOT;
    for (Py_ssize_t i = 0; i < nroots; i++)
        if (record_child(roots[i], w))
            return 1;
    for (size_t i = 0; i < s->nrecords; i++) {
        Info info = *info_at(w->types.infos, s->records[i].type);
        size_t start = s->nwords;
        w->current = (uint32_t)i;
        if (words(s->records[i].obj, &info, record_child, record_word, w)) {
            w->given_up = !PyErr_Occurred();
            return 1;
        }
        s->records[i].count = (uint32_t)(s->nwords - start);
        if (note_shared(w, s->records[i].obj, &info))
            return 1;
    }
    return 0;
}

static void *fitted(void *memory, size_t nbytes)
{
    void *moved = nbytes ? PyMem_RawRealloc(memory, nbytes) : NULL;
    return moved != NULL ? moved : memory;
}

/* Strong references to the leaves' objects; -1 with an exception. */
static PyObject *hold_leaves(Snapshot *s)
{
    PyObject *held = PyTuple_New((Py_ssize_t)s->nleaves);
    for (size_t i = 0; held != NULL && i < s->nleaves; i++) {
        Py_INCREF(s->leaves[i].obj);
        PyTuple_SET_ITEM(held, (Py_ssize_t)i, s->leaves[i].obj);
    }
    return held;
}

/* 1 if every leaf has a token now, 0 if one has none, -1 with an exception. */
static int take_tokens(Snapshot *s, PyObject *held)
{
    for (size_t i = 0; i < s->nleaves; i++) {
        PyObject *token = PyObject_CallOneArg(s->leaf, PyTuple_GET_ITEM(held, (Py_ssize_t)i));
        if (token == NULL)
            return -1;
        s->leaves[i].token = token;
        if (token == Py_None)
            return 0;
    }
    return 1;
}

/* -- the difference of two snapshots */

typedef struct {
    const Snapshot *old;
    size_t *offsets;     /* of each record's words */
    uint32_t *cells;     /* index of a record + 1 by its address; made when it is first needed */
    size_t mask, next;   /* next: where the last one was found, and one more */
    uint8_t *met;
} Before;

static void forget_before(Before *b)
{
    PyMem_RawFree(b->offsets);
    PyMem_RawFree(b->cells);
    PyMem_RawFree(b->met);
}

static int open_before(Before *b, const Snapshot *old)
{
    *b = (Before){.old = old, .offsets = PyMem_RawMalloc((old->nrecords + 1) * sizeof *b->offsets),
                  .met = PyMem_RawCalloc(old->nrecords + 1, 1)};
    if (b->offsets == NULL || b->met == NULL) {
        forget_before(b);
        PyErr_NoMemory();
        return -1;
    }
    size_t at = old->nroots;
    for (size_t i = 0; i < old->nrecords; i++) {
        b->offsets[i] = at;
        at += old->records[i].count;
    }
    return 0;
}

static int index_before(Before *b)
{
    size_t size = 64;
    while (size < 2 * b->old->nrecords)
        size *= 2;
    b->cells = PyMem_RawCalloc(size, sizeof *b->cells);
    if (b->cells == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    b->mask = size - 1;
    for (size_t i = 0; i < b->old->nrecords; i++) {
        size_t at = hash_of(b->old->records[i].obj) & b->mask;
        while (b->cells[at] != 0)
            at = (at + 1) & b->mask;
        b->cells[at] = (uint32_t)i + 1;
    }
    return 0;
}

/* Index of the record of what was at the address of `o`; -1 if there is none, -2 with an exception. Both snapshots list
   what did not move in the same order, so the next one is tried first. */
static Py_ssize_t find_before(Before *b, PyObject *o)
{
    if (b->next < b->old->nrecords && b->old->records[b->next].obj == o)
        return (Py_ssize_t)b->next++;
    if (b->cells == NULL && index_before(b) < 0)
        return -2;
    for (size_t at = hash_of(o) & b->mask; b->cells[at] != 0; at = (at + 1) & b->mask)
        if (b->old->records[b->cells[at] - 1].obj == o) {
            b->next = b->cells[at];
            return (Py_ssize_t)b->next - 1;
        }
    return -1;
}

static int append_new(PyObject *list, PyObject *item)
{
    int failed = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return failed ? -1 : 0;
}

/* Addresses that can be looked up; the table is made when the first one is. */
typedef struct {
    const uintptr_t *all;
    size_t n, mask;
    size_t *cells;       /* index + 1 */
} Addresses;

/* Index of `address`; -1 if it is not among them, -2 with an exception. */
static Py_ssize_t find_address(Addresses *s, uintptr_t address)
{
    if (s->cells == NULL) {
        size_t size = 64;
        while (size < 2 * s->n)
            size *= 2;
        if ((s->cells = PyMem_RawCalloc(size, sizeof *s->cells)) == NULL) {
            PyErr_NoMemory();
            return -2;
        }
        s->mask = size - 1;
        for (size_t i = 0; i < s->n; i++) {
            size_t at = hash_of((void *)s->all[i]) & s->mask;
            while (s->cells[at] != 0)
                at = (at + 1) & s->mask;
            s->cells[at] = i + 1;
        }
    }
    for (size_t at = hash_of((void *)address) & s->mask; s->cells[at] != 0; at = (at + 1) & s->mask)
        if (s->all[s->cells[at] - 1] == address)
            return (Py_ssize_t)s->cells[at] - 1;
    return -1;
}

/* Into `extra`, what is in `a` and not in `b`; they mostly agree, in order. */
static int list_extra(const uintptr_t *a, size_t na, Addresses *b, PyObject *extra)
{
    for (size_t i = 0, next = 0; i < na; i++) {
        if (next < b->n && b->all[next] == a[i]) {
            next++;
            continue;
        }
        Py_ssize_t k = find_address(b, a[i]);
        if (k == -2 || (k == -1 && append_new(extra, PyLong_FromVoidPtr((void *)a[i])) < 0))
            return -1;
        if (k >= 0)
            next = (size_t)k + 1;
    }
    return 0;
}

/* (object, words before that are as they were, words after, the children between or None) */
static PyObject *edit_of(const Record *new, const Info *info, const uintptr_t *now, const Record *old,
                         const uintptr_t *then)
{
    size_t n = new->count, m = old->count, unit = info->body == DICT_BODY ? 2 : 1, before = 0, after = 0;
    int is_listed = info->nslots == 0 && !info->has_dict
                    && (info->body == LIST_BODY || info->body == DICT_BODY || info->body == SET_BODY);
    if (!is_listed)
        return Py_BuildValue("OnnO", new->obj, (Py_ssize_t)0, (Py_ssize_t)0, Py_None);
    while (before < n && before < m && now[before] == then[before])
        before++;
    before -= before % unit;
    while (after < n - before && after < m - before && now[n - 1 - after] == then[m - 1 - after])
        after++;
    after -= after % unit;
    PyObject *middle = PyList_New((Py_ssize_t)(n - before - after));
    if (middle == NULL)
        return NULL;
    for (size_t i = before; i < n - after; i++) {
        PyObject *child = (PyObject *)(now[i] & ~NOT_OWNED);
        PyList_SET_ITEM(middle, (Py_ssize_t)(i - before), Py_NewRef(child != NULL ? child : Py_None));
    }
    return Py_BuildValue("OnnN", new->obj, (Py_ssize_t)(before / unit), (Py_ssize_t)(after / unit), middle);
}

/* 1: done; 0: they cannot be compared; -1 with an exception. */
static int compare_records(const Snapshot *new, Before *b, Addresses *shared, PyObject *changed, PyObject *added)
{
    size_t at = new->nroots;
    for (size_t i = 0; i < new->nrecords; i++) {
        const Record *record = &new->records[i];
        const uintptr_t *now = new->words + at;
        at += record->count;
        Py_ssize_t k = find_before(b, record->obj);
        if (k == -2)
            return -1;
        if (k == -1) {
            /* the dictionary of an instance, that something else refers to from now on */
            Py_ssize_t known = PyDict_Check(record->obj) ? find_address(shared, (uintptr_t)record->obj) : -1;
            if (known != -1)
                return known == -2 ? -1 : 0;
            if (append_new(added, PyLong_FromVoidPtr(record->obj)) < 0)
                return -1;
            continue;
        }
        const Record *before = &b->old->records[k];
        const Info *info = info_at(new->infos, record->type);
        if (info->type != info_at(b->old->infos, before->type)->type)
            return 0;
        b->met[k] = 1;
        const uintptr_t *then = b->old->words + b->offsets[k];
        if (record->count == before->count && memcmp(now, then, record->count * sizeof *now) == 0)
            continue;
        if (append_new(changed, edit_of(record, info, now, before, then)) < 0)
            return -1;
    }
    return 1;
}

static int list_gone(const Before *b, PyObject *gone)
{
    for (size_t i = 0; i < b->old->nrecords; i++)
        if (!b->met[i] && append_new(gone, PyLong_FromVoidPtr(b->old->records[i].obj)) < 0)
            return -1;
    return 0;
}

static int has_same_leaves(const Snapshot *a, const Snapshot *b)
{
    if (a->nleaves != b->nleaves)
        return 0;
    for (size_t i = 0; i < a->nleaves; i++)
        if (a->leaves[i].obj != b->leaves[i].obj || a->leaves[i].type != b->leaves[i].type)
            return 0;
    return 1;
}

/* (changed, added, gone, added that can be shared, gone ones of those); None if they cannot be compared. `new` must
   have been taken just now: what it has met is read. */
static PyObject *difference(const Snapshot *new, const Snapshot *old)
{
    if (old->nroots == SIZE_MAX || !has_same_leaves(new, old))
        Py_RETURN_NONE;
    PyObject *lists[5] = {NULL};
    PyObject *found = PyTuple_New(5);
    Before b;
    Addresses before = {.all = old->shared, .n = old->nshared}, now = {.all = new->shared, .n = new->nshared};
    if (found == NULL || open_before(&b, old) < 0) {
        Py_XDECREF(found);
        return NULL;
    }
    for (int i = 0; i < 5; i++) {
        if ((lists[i] = PyList_New(0)) == NULL)
            goto failed;
        PyTuple_SET_ITEM(found, i, lists[i]);
    }
    int compared = compare_records(new, &b, &before, lists[0], lists[1]);
    if (compared < 0 || (compared && (list_gone(&b, lists[2]) < 0
                                      || list_extra(now.all, now.n, &before, lists[3]) < 0
                                      || list_extra(before.all, before.n, &now, lists[4]) < 0)))
        goto failed;
    forget_before(&b);
    PyMem_RawFree(before.cells);
    PyMem_RawFree(now.cells);
    if (!compared) {
        Py_DECREF(found);
        Py_RETURN_NONE;
    }
    return found;
failed:
    forget_before(&b);
    PyMem_RawFree(before.cells);
    PyMem_RawFree(now.cells);
    Py_DECREF(found);
    return NULL;
}

/* Replaces `*found` by None unless every leaf has the token it had. Runs the code of tokens. */
static int compare_tokens(const Snapshot *new, const Snapshot *old, PyObject **found)
{
    for (size_t i = 0; *found != Py_None && i < new->nleaves; i++) {
        if (i >= old->nleaves)  /* it was cleared meanwhile */
            break;
        PyObject *then = Py_NewRef(old->leaves[i].token);
        int same = PyObject_RichCompareBool(new->leaves[i].token, then, Py_EQ);
        Py_DECREF(then);
        if (same < 0)
            return -1;
        if (!same)
            Py_SETREF(*found, Py_NewRef(Py_None));
    }
    return 0;
}

/* -- depth */

/* 0 when all of `roots` was written down in `s`; 1 when given up, or with an exception. */
static int start_walk(Walk *w, Snapshot *s, PyObject *roots)
{
    w->out = s;
    int failed = walk(w, &PyTuple_GET_ITEM(roots, 0), PyTuple_GET_SIZE(roots));
    PyMem_RawFree(w->types.cells);
    PyMem_RawFree(w->seen);
    s->infos = w->types.infos;
    s->ninfos = w->types.count;
    return failed;
}

typedef struct {
    uint32_t record;
    int height;
    size_t at;           /* of the next word */
} Step;

typedef struct {
    const Snapshot *s;
    Before index;
    int *heights;        /* by record: UNKNOWN, INSIDE, or how deep it is below the next part */
    char *enters;        /* by type: whether its objects are gone into */
    Step *steps;
    size_t nsteps, room;
    int is_cyclic;
} Depth;

enum { UNKNOWN = -2, INSIDE = -1 };

static int is_entered(const Info *info, size_t type, PyObject *plain)
{
    if (type < nbases)
        return info->role == FUNCTION || (info->role == CONTAINER
               && (info->body == LIST_BODY || info->body == TUPLE_BODY || info->body == DICT_BODY
                   || info->body == SET_BODY || info->body == CELL_BODY));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(plain); i++)
        if (PyTuple_GET_ITEM(plain, i) == (PyObject *)info->type)
            return info->role == CONTAINER && info->body == NO_BODY;
    return 0;
}

/* Go into what a word refers to, if that is an object with something in it that is not known yet. */
static int enter(Depth *d, uintptr_t word)
{
    if (!(word & NOT_OWNED) || word == NOT_OWNED)
        return 0;
    Py_ssize_t k = find_before(&d->index, (PyObject *)(word & ~NOT_OWNED));
    if (k < 0)
        return k == -2 ? -1 : 0;
    int known = d->heights[k];
    if (known != UNKNOWN) {
        d->is_cyclic |= known == INSIDE;
        if (d->nsteps > 0 && known > d->steps[d->nsteps - 1].height)
            d->steps[d->nsteps - 1].height = known;
        return 0;
    }
    d->heights[k] = 0;
    if (!d->enters[d->s->records[k].type])
        return 0;
    if (d->nsteps == d->room) {
        size_t room = d->room ? 2 * d->room : 64;
        Step *steps = PyMem_RawRealloc(d->steps, room * sizeof *steps);
        if (steps == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        d->steps = steps;
        d->room = room;
    }
    d->heights[k] = INSIDE;
    d->steps[d->nsteps++] = (Step){(uint32_t)k, 0, d->index.offsets[k]};
    return 0;
}

static int list_parts(Depth *d, int stride, PyObject *parts)
{
    for (size_t i = 0; i < d->s->nroots; i++) {
        if (enter(d, d->s->words[i]) < 0)
            return -1;
        while (d->nsteps > 0) {
            Step *step = &d->steps[d->nsteps - 1];
            uint32_t record = step->record;
            if (step->at < d->index.offsets[record] + d->s->records[record].count) {
                if (enter(d, d->s->words[step->at++]) < 0)
                    return -1;
                continue;
            }
            int height = step->height + 1;
            if (height >= stride) {
                if (PyList_Append(parts, d->s->records[record].obj) < 0)
                    return -1;
                height = 0;
            }
            d->heights[record] = height;
            if (--d->nsteps > 0 && height > d->steps[d->nsteps - 1].height)
                d->steps[d->nsteps - 1].height = height;
        }
    }
    return 0;
}

/* Types of the objects that were visited and that somebody must know to be plain, before they are gone into. */
static int list_kinds(const Snapshot *s, PyObject *kinds)
{
    for (size_t i = 0; i < s->ninfos; i++)
        if (s->infos[i].role == CONTAINER && s->infos[i].body == NO_BODY
            && PyList_Append(kinds, (PyObject *)s->infos[i].type) < 0)
            return -1;
    return 0;
}

static PyObject *parts_of(Snapshot *s, int stride, PyObject *plain)
{
    Depth d = {.s = s};
    PyObject *parts = PyList_New(0), *kinds = PyList_New(0), *found = NULL;
    if (parts == NULL || kinds == NULL || open_before(&d.index, s) < 0)
        goto end;
    d.heights = PyMem_RawMalloc((s->nrecords + 1) * sizeof *d.heights);
    d.enters = PyMem_RawCalloc(nbases + s->ninfos, 1);
    if (d.heights == NULL || d.enters == NULL) {
        PyErr_NoMemory();
        goto end;
    }
    for (size_t i = 0; i < s->nrecords; i++)
        d.heights[i] = UNKNOWN;
    for (size_t i = 0; i < nbases + s->ninfos; i++)
        d.enters[i] = (char)is_entered(info_at(s->infos, i), i, plain);
    if (list_parts(&d, stride, parts) == 0 && list_kinds(s, kinds) == 0)
        found = Py_BuildValue("OOO", parts, d.is_cyclic ? Py_True : Py_False, kinds);
end:
    forget_before(&d.index);
    PyMem_RawFree(d.heights);
    PyMem_RawFree(d.enters);
    PyMem_RawFree(d.steps);
    Py_XDECREF(parts);
    Py_XDECREF(kinds);
    return found;
}

static PyObject *nested(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *roots, *live, *atoms, *plain, *found = NULL;
    Py_ssize_t limit;
    int stride;
    if (!PyArg_ParseTuple(args, "O!O!nO!iO!:nested", &PyTuple_Type, &roots, &PyDict_Type, &live, &limit,
                          &PyTuple_Type, &atoms, &stride, &PyTuple_Type, &plain))
        return NULL;
    Snapshot *s = PyObject_GC_New(Snapshot, snapshot_type);
    if (s == NULL)
        return NULL;
    memset((char *)s + sizeof(PyObject), 0, sizeof *s - sizeof(PyObject));
    s->leaf = Py_NewRef(Py_None);  /* never called: what is opaque is not gone into */
    Walk w = {.live = live, .atoms = atoms, .limit = limit < 0 ? 0 : (size_t)Py_MIN(limit, UINT32_MAX)};
    int collects = PyGC_Disable();
    int failed = start_walk(&w, s, roots);
    if (!failed)
        found = parts_of(s, stride, plain);
    if (collects)
        PyGC_Enable();
    PyObject_GC_Track(s);
    Py_DECREF(s);
    if (failed && !PyErr_Occurred())
        Py_RETURN_NONE;
    return found;
}

/* A new snapshot, and in `*found` its difference to `old` unless that is NULL. None if something is opaque. */
static PyObject *take(const Snapshot *old, PyObject *roots, PyObject *live, PyObject *leaf, Py_ssize_t limit,
                      PyObject *atoms, PyObject **found)
{
    Snapshot *s = PyObject_GC_New(Snapshot, snapshot_type);
    if (s == NULL)
        return NULL;
    memset((char *)s + sizeof(PyObject), 0, sizeof *s - sizeof(PyObject));
    s->leaf = leaf == Py_None ? NULL : Py_NewRef(leaf);
    Walk w = {.live = live, .atoms = atoms, .limit = limit < 0 ? 0 : (size_t)Py_MIN(limit, UINT32_MAX)};
    PyObject *held = NULL;
    int collects = PyGC_Disable();
    w.out = s;
    if (old != NULL && old->nroots != SIZE_MAX)
        make_room(&w, old);
    int failed = start_walk(&w, s, roots);
    if (!failed) {
        s->words = fitted(s->words, s->nwords * sizeof *s->words);
        s->records = fitted(s->records, s->nrecords * sizeof *s->records);
        s->parents = fitted(s->parents, s->nrecords * sizeof *s->parents);
        s->infos = fitted(s->infos, s->ninfos * sizeof *s->infos);
        s->shared = fitted(s->shared, s->nshared * sizeof *s->shared);
        held = hold_leaves(s);
        failed = held == NULL || (old != NULL && (*found = difference(s, old)) == NULL);
    }
    if (collects)
        PyGC_Enable();
    int complete = failed ? (PyErr_Occurred() ? -1 : 0) : take_tokens(s, held);
    if (complete == 1 && old != NULL && compare_tokens(s, old, found) < 0)
        complete = -1;
    Py_XDECREF(held);
    PyObject_GC_Track(s);
    if (complete == 1)
        return (PyObject *)s;
    Py_DECREF(s);
    if (complete < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *take_snapshot(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *roots, *live, *leaf, *atoms;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "O!O!OnO!:snapshot", &PyTuple_Type, &roots, &PyDict_Type, &live, &leaf, &limit,
                          &PyTuple_Type, &atoms))
        return NULL;
    return take(NULL, roots, live, leaf, limit, atoms, NULL);
}

static PyObject *advance(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *old, *roots, *live, *leaf, *atoms, *found = NULL;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "O!O!O!OnO!:advance", snapshot_type, &old, &PyTuple_Type, &roots, &PyDict_Type, &live,
                          &leaf, &limit, &PyTuple_Type, &atoms))
        return NULL;
    if (stand_alone((Snapshot *)old) < 0)
        return NULL;
    PyObject *snapshot = take((Snapshot *)old, roots, live, leaf, limit, atoms, &found);
    if (snapshot == NULL || snapshot == Py_None) {
        Py_XDECREF(found);
        return snapshot;
    }
    return Py_BuildValue("NN", snapshot, found);
}

/* -- the check */

typedef struct {
    const uintptr_t *at, *end;
} Check;

static inline int differs(uintptr_t now, Check *c)
{
    return c->at == c->end || (*c->at++ & ~NOT_OWNED) != now;
}

static int child_differs(PyObject *o, void *arg)
{
    return differs((uintptr_t)o, arg);
}

static int word_differs(uintptr_t word, void *arg)
{
    return differs(word & ~NOT_OWNED, arg);
}

static int graph_differs(const Snapshot *s, PyObject **roots, size_t nroots)
{
    if (nroots != s->nroots)
        return 1;
    Check c = {s->words, s->words + nroots};
    for (size_t i = 0; i < nroots; i++)
        if (child_differs(roots[i], &c))
            return 1;
    for (size_t i = 0; i < s->nrecords; i++) {
        const Record *record = &s->records[i];
        if (i + 8 < s->nrecords)
            __builtin_prefetch(s->records[i + 8].obj);
        const Info *info = info_at(s->infos, record->type);
        c.end = c.at + record->count;
        if (Py_TYPE(record->obj) != info->type)
            return 1;
        if (words(record->obj, info, child_differs, word_differs, &c) || c.at != c.end)
            return 1;
    }
    for (size_t i = 0; i < s->nleaves; i++)
        if (Py_TYPE(s->leaves[i].obj) != s->leaves[i].type)
            return 1;
    return 0;
}

/* 1 if a token differs, 0 if none does, -1 with an exception. */
static int tokens_differ(Snapshot *s, PyObject *held)
{
    for (size_t i = 0; i < s->nleaves; i++) {
        PyObject *token = PyObject_CallOneArg(s->leaf, PyTuple_GET_ITEM(held, (Py_ssize_t)i));
        if (token == NULL)
            return -1;
        int same = token != Py_None ? PyObject_RichCompareBool(token, s->leaves[i].token, Py_EQ) : 0;
        Py_DECREF(token);
        if (same <= 0)
            return same < 0 ? -1 : 1;
    }
    return 0;
}

#include "_graph_write.h"
#include "_graph_amend.h"
#include "_graph_edit.h"

static PyObject *is_unchanged(Snapshot *s, PyObject *given)
{
    PyObject *roots = PySequence_Tuple(given), *held = NULL;
    if (roots == NULL)
        return NULL;
    int collects = PyGC_Disable();
    Snapshot *with_leaves = s->base != NULL ? s->base : s;
    int changed = (s->base != NULL ? amended_graph_differs : graph_differs)(
        s, &PyTuple_GET_ITEM(roots, 0), (size_t)PyTuple_GET_SIZE(roots));
    if (!changed && with_leaves->nleaves > 0 && (held = hold_leaves(with_leaves)) == NULL)
        changed = -1;
    if (collects)
        PyGC_Enable();
    Py_DECREF(roots);
    if (!changed && held != NULL) {
        Py_INCREF(with_leaves);
        changed = tokens_differ(with_leaves, held);
        Py_DECREF(with_leaves);
    }
    Py_XDECREF(held);
    return changed < 0 ? NULL : PyBool_FromLong(!changed);
}

static int snapshot_traverse(Snapshot *s, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(s));
    Py_VISIT(s->leaf);
    Py_VISIT(s->base);
    for (size_t i = 0; i < s->nleaves; i++)
        Py_VISIT(s->leaves[i].token);
    return 0;
}

static int snapshot_clear(Snapshot *s)
{
    Leaf *leaves = s->leaves;
    size_t nleaves = s->nleaves;
    s->leaves = NULL;
    s->nleaves = 0;
    s->nroots = SIZE_MAX;  /* equal to nothing any more */
    for (size_t i = 0; i < nleaves; i++) {
        Py_XDECREF(leaves[i].token);
        Py_DECREF(leaves[i].type);
    }
    PyMem_RawFree(leaves);
    Py_CLEAR(s->leaf);
    Py_CLEAR(s->base);
    return 0;
}

/* What it holds but for what may be in a cycle. */
static void forget(Snapshot *s)
{
    drop_words(s->words, s->nwords);
    PyMem_RawFree(s->records);
    PyMem_RawFree(s->parents);
    PyMem_RawFree(s->cells);
    PyMem_RawFree(s->shared_cells);
    PyMem_RawFree(s->shared);
    PyMem_RawFree(s->numbers);
    drop_parts(s);
    free_infos(s->infos, s->ninfos);
}

static void snapshot_dealloc(Snapshot *s)
{
    PyTypeObject *type = Py_TYPE(s);
    PyObject_GC_UnTrack(s);
    snapshot_clear(s);
    forget(s);
    PyObject_GC_Del(s);
    Py_DECREF(type);
}

static PyObject *snapshot_nbytes(Snapshot *s, void *Py_UNUSED(closure))
{
    if (stand_alone(s) < 0)
        return NULL;
    size_t nbytes = sizeof *s + s->nwords * sizeof *s->words + s->nrecords * sizeof *s->records
                    + s->ninfos * sizeof *s->infos + s->nleaves * sizeof *s->leaves + s->nshared * sizeof *s->shared
                    + s->nrecords * sizeof *s->parents + (s->cells != NULL ? (s->cells_mask + 1) * sizeof *s->cells : 0)
                    + (s->numbers != NULL ? s->nrecords * sizeof *s->numbers : 0);
    return PyLong_FromSize_t(nbytes);
}

static PyObject *snapshot_references(Snapshot *s, void *Py_UNUSED(closure))
{
    if (stand_alone(s) < 0)
        return NULL;
    return PyLong_FromSize_t(s->nwords);
}

static PyObject *addresses(const void *first, size_t stride, size_t n)
{
    PyObject *found = PyFrozenSet_New(NULL);
    for (size_t i = 0; found != NULL && i < n; i++) {
        PyObject *address = PyLong_FromVoidPtr(*(void *const *)((const char *)first + i * stride));
        if (address == NULL || PySet_Add(found, address) < 0)
            Py_CLEAR(found);
        Py_XDECREF(address);
    }
    return found;
}

static PyObject *snapshot_shared(Snapshot *s, PyObject *Py_UNUSED(ignored))
{
    if (stand_alone(s) < 0)
        return NULL;
    return addresses(s->shared, sizeof *s->shared, s->nshared);
}

static PyObject *snapshot_containers(Snapshot *s, PyObject *Py_UNUSED(ignored))
{
    if (stand_alone(s) < 0)
        return NULL;
    return addresses((char *)s->records + offsetof(Record, obj), sizeof *s->records, s->nrecords);
}

/* Places by address from a memo {address: (place, object)}; None if one that was visited has none. */
static PyObject *snapshot_numbers(Snapshot *s, PyObject *memo)
{
    if (stand_alone(s) < 0)
        return NULL;
    if (!PyDict_Check(memo)) {
        PyErr_SetString(PyExc_TypeError, "a memo is a dict");
        return NULL;
    }
    PyObject *found = PyDict_New();
    for (size_t i = 0; found != NULL && i < s->nrecords; i++) {
        PyObject *address = PyLong_FromVoidPtr(s->records[i].obj), *entry = NULL;
        if (address != NULL)
            entry = PyDict_GetItemWithError(memo, address);
        if (entry != NULL && PyTuple_Check(entry) && PyTuple_GET_SIZE(entry) == 2) {
            if (PyDict_SetItem(found, address, PyTuple_GET_ITEM(entry, 0)) < 0)
                Py_CLEAR(found);
        } else if (PyErr_Occurred() || address == NULL) {
            Py_CLEAR(found);
        } else if (s->records[i].count != 0 || s->records[i].type >= nbases || bases[s->records[i].type].type != &PyTuple_Type) {
            Py_DECREF(found);  /* an empty tuple is made anew wherever it is met */
            Py_DECREF(address);
            Py_RETURN_NONE;
        }
        Py_XDECREF(address);
    }
    return found;
}

/* Of the object at an address, its place in the pickle that was written; None if it has none. */
static PyObject *snapshot_place(Snapshot *s, PyObject *address)
{
    void *at = PyLong_AsVoidPtr(address);
    if (PyErr_Occurred())
        return NULL;
    Py_ssize_t i = s->numbers != NULL ? find_record(s, (uintptr_t)at) : -1;
    if (i == -2)
        return NULL;
    if (i < 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(s->numbers[i] - 1);
}

/* Types of Python code among those that were met. */
static PyObject *snapshot_kinds(Snapshot *s, PyObject *Py_UNUSED(ignored))
{
    if (stand_alone(s) < 0)
        return NULL;
    PyObject *kinds = PyList_New(0);
    for (size_t i = 0; kinds != NULL && i < s->ninfos; i++)
        if (PyList_Append(kinds, (PyObject *)s->infos[i].type) < 0)
            Py_CLEAR(kinds);
    return kinds;
}

static PyMethodDef snapshot_methods[] = {
    {"numbers", (PyCFunction)snapshot_numbers, METH_O, "Places in a pickler's memo, by address; None if one has none."},
    {"needs", (PyCFunction)snapshot_needs, METH_O,
     "needs(most) -> (an instance of each class, atoms that others must write) or None"},
    {"write", (PyCFunction)snapshot_write, METH_VARARGS,
     "write(roots, names, places, first) -> (end of a pickle of a unit of these names, places taken) or None"},
    {"edit_needs", (PyCFunction)snapshot_edit_needs, METH_VARARGS,
     "edit_needs(added, least, most) -> as needs, of the new objects of an amended one"},
    {"write_edit", (PyCFunction)snapshot_write_edit, METH_VARARGS,
     "write_edit(roots, added, said, names, without, numbers, gone, places, first) -> (end of a pickle, places taken, "
     "places of the new objects) or None"},
    {"place", (PyCFunction)snapshot_place, METH_O, "The place in what was written of the object at an address, or None."},
    {"kinds", (PyCFunction)snapshot_kinds, METH_NOARGS, "Types of what was met, but for the built-in ones."},
    {"shared", (PyCFunction)snapshot_shared, METH_NOARGS, "Addresses of objects that two names could share and one change."},
    {"containers", (PyCFunction)snapshot_containers, METH_NOARGS, "Addresses of the objects that were visited."},
    {"is_unchanged", (PyCFunction)is_unchanged, METH_O, "Whether these roots, and all they reach, are surely as they were."},
    {NULL, NULL, 0, NULL},
};

static PyObject *snapshot_objects(Snapshot *s, void *Py_UNUSED(closure))
{
    if (stand_alone(s) < 0)
        return NULL;
    return PyLong_FromSize_t(s->nrecords);
}

static PyObject *snapshot_has_shared_dict(Snapshot *s, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(s->has_shared_dict);
}

static PyGetSetDef snapshot_getset[] = {
    {"has_shared_dict", (getter)snapshot_has_shared_dict, NULL,
     "Whether something beside its instance referred to the dictionary of one.", NULL},
    {"nbytes", (getter)snapshot_nbytes, NULL, "Bytes of memory that the snapshot takes.", NULL},
    {"objects", (getter)snapshot_objects, NULL, "Objects that were visited.", NULL},
    {"references", (getter)snapshot_references, NULL, "References that were written down.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot snapshot_slots[] = {
    {Py_tp_methods, snapshot_methods},
    {Py_tp_getset, snapshot_getset},
    {Py_tp_traverse, snapshot_traverse},
    {Py_tp_clear, snapshot_clear},
    {Py_tp_dealloc, snapshot_dealloc},
    {0, NULL},
};

static PyType_Spec snapshot_spec = {
    .name = "lambdakernel.state._graph.Snapshot",
    .basicsize = sizeof(Snapshot),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = snapshot_slots,
};

/* -- the bases */

static void add_base(PyTypeObject *type, int role, int body, int owned)
{
    if (type == NULL || nbases == BASES_ROOM || base_info(type) != NULL)
        return;
    size_t at = find_cell(base_cells, 4 * BASES_ROOM - 1, NULL, type);
    Info *info = &bases[nbases++];
    Py_INCREF(type);
    *info = (Info){.type = type, .role = (uint8_t)role, .body = (uint8_t)body, .owned = (uint8_t)owned,
                   .has_dict = role == CONTAINER && type->tp_dictoffset != 0};
    base_cells[at] = (uint32_t)nbases;
}

/* A type of C whose fields are all among its members; unknown ones leave it opaque. */
static void add_base_of_members(PyTypeObject *type, const char *const *names, int owned)
{
    static Py_ssize_t slots[64];
    static size_t used;
    if (type == NULL || used + 4 > 64)
        return;
    Py_ssize_t *own = slots + used;
    uint16_t n = 0;
    for (; *names != NULL; names++) {
        PyMemberDef *m = type->tp_members;
        while (m != NULL && m->name != NULL && strcmp(m->name, *names) != 0)
            m++;
        if (m == NULL || m->name == NULL || (m->type != MEMBER_OBJECT && m->type != MEMBER_OBJECT_EX))
            return;
        own[n++] = m->offset;
    }
    size_t before = nbases;
    add_base(type, CONTAINER, NO_BODY, owned);
    if (nbases > before) {
        bases[before].slots = own;
        bases[before].nslots = n;
        used += n;
    }
}

/* A type by its name in a module; NULL with no exception if there is none. The table of bases keeps it. */
static PyTypeObject *type_named(const char *module, const char *name)
{
    PyObject *from = PyImport_ImportModule(module);
    PyObject *found = from != NULL ? PyObject_GetAttrString(from, name) : NULL;
    Py_XDECREF(from);
    if (found == NULL)
        PyErr_Clear();
    return (PyTypeObject *)(found != NULL && PyType_Check(found) ? found : NULL);
}

static void add_atoms(void)
{
    PyTypeObject *values[] = {&PyLong_Type, &PyFloat_Type, &PyComplex_Type, &PyUnicode_Type, &PyBytes_Type};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(values); i++)
        add_base(values[i], ATOM, VALUE_BODY, 0);
    PyTypeObject *atoms[] = {
        &PyBool_Type, Py_TYPE(Py_None), Py_TYPE(Py_Ellipsis), Py_TYPE(Py_NotImplemented), &PyRange_Type, &PyType_Type,
        &PyCode_Type, &PyMethodDescr_Type, &PyWrapperDescr_Type, &PyGetSetDescr_Type, &PyMemberDescr_Type,
        &PyClassMethodDescr_Type, PyDateTimeAPI->DateType, PyDateTimeAPI->DeltaType,
        Py_TYPE(PyDateTimeAPI->TimeZone_UTC),
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(atoms); i++)
        add_base(atoms[i], ATOM, NO_BODY, 0);
    add_base(PyDateTimeAPI->DateTimeType, MOMENT, NO_BODY, 0);
    add_base(PyDateTimeAPI->TimeType, MOMENT, NO_BODY, 0);
    add_base(&PyModule_Type, MODULE, NO_BODY, 0);
}

static void add_containers(void)
{
    add_base(&PyBaseObject_Type, CONTAINER, NO_BODY, 0);
    add_base(&PyList_Type, CONTAINER, LIST_BODY, 0);
    add_base(&PyTuple_Type, CONTAINER, TUPLE_BODY, 0);
    add_base(&PyDict_Type, CONTAINER, DICT_BODY, 0);
    add_base(&PySet_Type, CONTAINER, SET_BODY, 0);
    add_base(&PyFrozenSet_Type, CONTAINER, SET_BODY, 0);
    add_base(&PyMethod_Type, CONTAINER, METHOD_BODY, 0);
    add_base(&PyCell_Type, CONTAINER, CELL_BODY, 0);
    add_base(&PyDictKeys_Type, CONTAINER, VIEW_BODY, 0);
    add_base(&PyDictValues_Type, CONTAINER, VIEW_BODY, 0);
    add_base(&PyDictItems_Type, CONTAINER, VIEW_BODY, 0);
    add_base(&PyFunction_Type, FUNCTION, FUNCTION_BODY, 0);
    add_base(&PyCFunction_Type, BUILTIN, BUILTIN_BODY, 0);
    add_base(&PyCMethod_Type, BUILTIN, BUILTIN_BODY, 0);
    add_base(&_PyWeakref_RefType, WEAKREF, WEAKREF_BODY, 0);
    if (PyODict_Type.tp_basicsize == sizeof(ODict) && PyODict_Type.tp_dictoffset == offsetof(ODict, inst_dict))
        add_base(&PyODict_Type, CONTAINER, ODICT_BODY, 0);
    PyObject *implementation = PySys_GetObject("implementation");
    if (implementation != NULL && Py_TYPE(implementation)->tp_dictoffset == sizeof(PyObject))
        add_base(Py_TYPE(implementation), CONTAINER, NO_BODY, 0);  /* types.SimpleNamespace */
    static const char *const slice[] = {"start", "stop", "step", NULL}, *const alias[] = {"__origin__", "__args__", NULL},
        *const args[] = {"__args__", NULL}, *const partial[] = {"func", "args", "keywords", NULL},
        *const factory[] = {"default_factory", NULL};
    add_base_of_members(&PySlice_Type, slice, 1);
    add_base_of_members(&Py_GenericAliasType, alias, 1);
    add_base_of_members(type_named("types", "UnionType"), args, 1);
    add_base_of_members(type_named("functools", "partial"), partial, 0);
    PyTypeObject *defaults = type_named("collections", "defaultdict");
    add_base_of_members(defaults, factory, 0);
    if (defaults != NULL && base_info(defaults) != NULL)
        bases[nbases - 1].body = DICT_BODY;
}

static void add_deque(void)
{
    deque_type = type_named("collections", "deque");
    for (PyGetSetDef *g = deque_type != NULL ? deque_type->tp_getset : NULL; g != NULL && g->name != NULL; g++)
        if (strcmp(g->name, "maxlen") == 0)
            deque_maxlen = g;
    if (deque_maxlen != NULL && deque_type->tp_traverse != NULL)
        add_base(deque_type, CONTAINER, DEQUE_BODY, 0);
}

static int add_bases(void)
{
    PyObject *sample = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "sample");
    if (sample == NULL)
        return -1;
    class_traverse = ((PyTypeObject *)sample)->tp_traverse;
    Py_DECREF(sample);
    enum_type = type_named("enum", "EnumType");
    finalizer_type = type_named("weakref", "finalize");
    str_dunder_name = PyUnicode_InternFromString("__name__");
    str_dunder_spec = PyUnicode_InternFromString("__spec__");
    str_dunder_file = PyUnicode_InternFromString("__file__");
    if (enum_type == NULL || finalizer_type == NULL || class_traverse == NULL || str_dunder_name == NULL
        || str_dunder_spec == NULL || str_dunder_file == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ImportError, "object layouts of this Python are not known here");
        return -1;
    }
    add_atoms();
    add_containers();
    add_deque();
    return 0;
}

static PyMethodDef functions[] = {
    {"snapshot", take_snapshot, METH_VARARGS, "snapshot(roots, live, leaf, limit, atoms) -> Snapshot or None"},
    {"amend", amend, METH_VARARGS, "amend(old, roots, live, atoms) -> (Snapshot, difference) or None"},
    {"advance", advance, METH_VARARGS,
     "advance(old, roots, live, leaf, limit, atoms) -> (Snapshot, difference or None) or None"},
    {"nested", nested, METH_VARARGS,
     "nested(roots, live, limit, atoms, stride, plain) -> (parts, is cyclic, kinds of instances) or None"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "lambdakernel.state._graph", "See lambdakernel.state.graph.", -1, functions,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__graph(void)
{
    PyDateTime_IMPORT;
    if (PyDateTimeAPI == NULL || (nbases == 0 && add_bases() < 0))
        return NULL;
    if (snapshot_type == NULL && (snapshot_type = (PyTypeObject *)PyType_FromSpec(&snapshot_spec)) == NULL)
        return NULL;
    return PyModule_Create(&definition);
}
