// abi_tests/scenario/scenario.rs: one region from Rust, through the bindings that bindgen makes of rcore.h.
#![allow(non_camel_case_types, non_upper_case_globals, non_snake_case, dead_code, deref_nullptr)]
mod rcore {
    include!(env!("RCORE_BINDINGS"));
}
use rcore::*;
use std::ffi::{c_void, CStr};
use std::ptr::{null, null_mut};

const N: usize = 1000;
static SHAPE: [i64; 1] = [N as i64];

macro_rules! made {
    ($type:ty, $tag:expr) => {{
        let mut v: $type = unsafe { std::mem::zeroed() };
        v.head.struct_size = std::mem::size_of::<$type>() as u32;
        v.head.struct_type = $tag;
        v
    }};
}

fn floats(data: *mut f32) -> rc_tensor_spec {
    let mut s = made!(rc_tensor_spec, rc_type_RC_TYPE_TENSOR_SPEC);
    s.data = data as *mut c_void;
    s.dtype_code = 2;
    s.dtype_bits = 32;
    s.ndim = 1;
    s.shape = SHAPE.as_ptr();
    s
}

unsafe fn compute(region: *mut rc_region) -> rc_status {
    let mut x = floats(null_mut());
    let mut y = floats(null_mut());
    let like = floats(null_mut());
    let status = rc_region_view(region, 0, null_mut(), &mut x);
    if status < 0 {
        return status;
    }
    let status = rc_region_alloc(region, 1, &like, null_mut(), &mut y);
    if status < 0 || y.data.is_null() {
        return status;
    }
    for i in 0..N {
        *(y.data as *mut f32).add(i) = *(x.data as *const f32).add(i) * 3.0;
    }
    rc_status_RC_OK
}

unsafe extern "C" fn replay(args: *const rc_replay_args) -> rc_status {
    *((*args).module_data as *mut i32) += 1;
    compute((*args).region)
}

fn main() {
    unsafe {
        assert!(rc_version() == RC_HEADER_VERSION);
        let name = CStr::from_ptr(rc_status_name(rc_status_RC_E_MEMORY));
        assert_eq!(name.to_str().unwrap(), "RC_E_MEMORY");
        let mut desc = made!(rc_context_desc, rc_type_RC_TYPE_CONTEXT_DESC);
        desc.target_version = RC_TARGET_VERSION;
        let mut context: *mut rc_context = null_mut();
        assert_eq!(rc_context_create(&desc, &mut context), rc_status_RC_OK);

        let json = b"{\"x\":"; // a syntax error: the status and its text arrive
        let mut policy: *mut rc_policy = null_mut();
        assert_eq!(rc_policy_create_json(json.as_ptr() as *const _, json.len() as u64, &mut policy), rc_status_RC_E_ARGUMENT);
        let mut info = made!(rc_error_info, rc_type_RC_TYPE_ERROR_INFO);
        assert_eq!(rc_error_last(&mut info), rc_status_RC_OK);
        assert!(info.message[0] != 0 && policy.is_null());

        let mut rule = made!(rc_policy_rule, rc_type_RC_TYPE_POLICY_RULE);
        rule.kind = b"layernorm\0".as_ptr() as *const _;
        rule.action = rc_action_RC_ACTION_RECOMPUTE;
        let mut table = made!(rc_policy_desc, rc_type_RC_TYPE_POLICY_DESC);
        table.num_layers = 1;
        table.rules = &rule;
        table.n_rules = 1;
        table.rule_stride = std::mem::size_of::<rc_policy_rule>() as u32;
        assert_eq!(rc_policy_create(&table, &mut policy), rc_status_RC_OK);
        assert_eq!(rc_context_configure(context, policy), rc_status_RC_OK);
        rc_policy_release(policy);

        let mut replays = 0i32;
        let mut slots = [made!(rc_slot_desc, rc_type_RC_TYPE_SLOT_DESC), made!(rc_slot_desc, rc_type_RC_TYPE_SLOT_DESC)];
        slots[0].name = b"x\0".as_ptr() as *const _;
        slots[0].role = rc_role_RC_ROLE_INPUT;
        slots[1].name = b"y\0".as_ptr() as *const _;
        slots[1].role = rc_role_RC_ROLE_OUTPUT;
        let mut ops = made!(rc_module_ops, rc_type_RC_TYPE_MODULE_OPS);
        ops.user_data = &mut replays as *mut i32 as *mut c_void;
        ops.replay = Some(replay);
        let mut module_desc = made!(rc_module_desc, rc_type_RC_TYPE_MODULE_DESC);
        module_desc.kind = b"layernorm\0".as_ptr() as *const _;
        module_desc.slots = slots.as_ptr();
        module_desc.n_slots = 2;
        module_desc.slot_stride = std::mem::size_of::<rc_slot_desc>() as u32;
        module_desc.ops = &ops;
        let mut module: *mut rc_module = null_mut();
        assert_eq!(rc_module_register(context, &module_desc, &mut module), rc_status_RC_OK);

        let mut data: Vec<f32> = (0..N).map(|i| i as f32).collect();
        let mut region_desc = made!(rc_region_desc, rc_type_RC_TYPE_REGION_DESC);
        region_desc.module = module;
        let mut region: *mut rc_region = null_mut();
        assert_eq!(rc_region_begin(context, &region_desc, &mut region), rc_status_RC_OK);
        let view = floats(data.as_mut_ptr());
        let mut item = made!(rc_save, rc_type_RC_TYPE_SAVE);
        item.view = &view;
        let stride = std::mem::size_of::<rc_save>() as u32;
        assert!(rc_region_save(region, &item, 1, stride, null_mut(), null_mut()) >= 0);
        assert_eq!(compute(region), rc_status_RC_OK);
        assert!(rc_region_end(region, null_mut()) >= 0);
        assert!(rc_region_discard(region, null_mut()) >= 0);
        let mut out = floats(null_mut());
        assert_eq!(rc_region_view(region, 1, null_mut(), &mut out), rc_status_RC_E_STATE);
        assert!(rc_backward_replay(&region, 1, null_mut()) >= 0);
        assert_eq!(replays, 1);
        assert_eq!(rc_region_view(region, 1, null_mut(), &mut out), rc_status_RC_OK);
        for i in 0..N {
            assert_eq!(*(out.data as *const f32).add(i), 3.0 * i as f32);
        }
        rc_region_release(region, null_mut());
        let none: *mut rc_region = null_mut();
        assert_eq!(rc_region_end(none, null_mut()), rc_status_RC_PASS);
        rc_module_release(module);
        rc_context_release(context);
        let _: *const rc_head = null();
    }
    println!("good");
}
